"""The errors a caller can act on. Each carries what was found and what was expected; none carries prompt text."""


class PointsmanError(Exception):
    """Base of every error this project raises on purpose."""


class MalformedPromptError(PointsmanError):
    """A request that holds nothing to route, or a message of a shape nobody sends.

    ``field`` names the place as a path, such as ``messages.2.content``.
    """

    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(f"{field}: found {found}, expected {expected}")
        self.field, self.found, self.expected = field, found, expected


class BundleError(PointsmanError):
    """A bundle that must not serve: ``what`` names the file or entry that differs."""

    def __init__(self, what: str, found: object, expected: object) -> None:
        super().__init__(f"{what}: found {found}, expected {expected}")
        self.what, self.found, self.expected = what, found, expected


class ConfigError(PointsmanError):
    """A catalog, policy or setting that cannot be used; ``where`` names file and entry."""

    def __init__(self, where: str, found: object, expected: object) -> None:
        super().__init__(f"{where}: found {found}, expected {expected}")
        self.where, self.found, self.expected = where, found, expected


class PolicyError(PointsmanError):
    """A request that no tier can satisfy, or that asks for a tier, a policy or an explanation that this bundle has not.

    ``field`` is the request's field that has to change, or None where several constraints exclude every tier together.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
