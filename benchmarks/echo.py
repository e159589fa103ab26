"""python -m benchmarks.echo: the least that a FastAPI server can do with the same bodies; what ours is compared with."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.post("/route")
async def echo(body: dict[str, Any]) -> dict[str, Any]:
    """The body."""
    return body


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    """For whoever starts this."""
    return {"status": "ready"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.echo", description="Answer POST /route with the body itself.")
    result.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop."""
    # The options of serve.__main__, so that the difference is the application's.
    uvicorn.run(app, host="127.0.0.1", port=parser().parse_args(argv).port, log_config=None, access_log=False, server_header=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
