"""python -m serve: answer POST /route."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

import uvicorn

from classifier.errors import PointsmanError
from serve.app import create_app
from serve.settings import Settings


def parser() -> argparse.ArgumentParser:
    """The command line. Every flag may also be set by a variable POINTSMAN_<FLAG>."""
    result = argparse.ArgumentParser(prog="python -m serve", description="Answer POST /route with the cheapest sufficient model tier.")
    result.add_argument("--host", help="address to listen on (127.0.0.1)")
    result.add_argument("--port", help="port to listen on (8080)")
    result.add_argument("--bundle", help="a bundle, or a folder of bundles with CURRENT (models/)")
    result.add_argument("--catalog", help="which models stand behind the tiers (config/catalog.toml)")
    result.add_argument("--path", help="fast, auto or accurate: how much time to spend where a request does not say (auto)")
    result.add_argument("--accurate-threads", help="threads of the accurate path (half of the cores)")
    result.add_argument("--max-body", help="largest request body in bytes (4 MiB)")
    result.add_argument("--max-batch", help="most requests in one batch (256)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Exit code 2: a setting, the bundle or the catalog cannot be used."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = Settings.read(os.environ, vars(parser().parse_args(argv)))
        app = create_app(settings)
    except PointsmanError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 2
    logging.getLogger("pointsman").info(
        "bundle %s, starting on http://%s:%s", app.state.service.router.manifest.version, settings.host, settings.port
    )
    # uvicorn finishes what is in flight and then raises the signal again: a stop that was asked for is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Access lines, and the refusals of a WebSocket, would hold whatever clients put into a URL.
    uvicorn.run(
        app, host=settings.host, port=settings.port, log_config=None, access_log=False, server_header=False, proxy_headers=False, ws="none"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
