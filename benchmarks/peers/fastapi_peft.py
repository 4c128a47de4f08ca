"""FastAPI in front of PEFT: `set_adapter` and one padded forward a request, behind a lock.

What most people write first. The request's rows are its batch; requests never share one. Handlers run in threads, so
that parsing goes on while the model works.
"""

import argparse
from pathlib import Path
from threading import Lock

import uvicorn
from fastapi import FastAPI
from peft_model import Answer, PeftClassifiers
from pydantic import BaseModel


class Request(BaseModel):
    inputs: list[str]


class Response(BaseModel):
    predictions: list[Answer]


def create_app(classifiers: PeftClassifiers) -> FastAPI:
    """The application."""
    app, lock = FastAPI(), Lock()

    @app.post("/classify/{task}")
    def classify(task: str, body: Request) -> Response:
        with lock:
            return Response(predictions=classifiers.classify(task, body.inputs))

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--adapters", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    loaded = PeftClassifiers(options.backbone, options.adapters, threads=options.threads)
    loaded.load_all()
    uvicorn.run(create_app(loaded), port=options.port, access_log=False, log_level="warning")
