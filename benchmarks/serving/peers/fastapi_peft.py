"""FastAPI in front of PEFT: `set_adapter` and one padded forward per request, behind a lock.

The usual first implementation. A request's rows are its batch; requests never share one. Handlers run in threads, so
that parsing continues while the model works.
"""

from threading import Lock

import uvicorn
from fastapi import FastAPI
from peft_model import Answer, PeftClassifiers, read_options
from pydantic import BaseModel


class Request(BaseModel):
    inputs: list[str]


class Response(BaseModel):
    predictions: list[Answer]


def create_app(classifiers: PeftClassifiers) -> FastAPI:
    """Make the application."""
    app, lock = FastAPI(), Lock()

    @app.post("/classify/{task}")
    def classify(task: str, body: Request) -> Response:
        with lock:
            return Response(predictions=classifiers.classify(task, body.inputs))

    return app


if __name__ == "__main__":
    options = read_options(__doc__)
    loaded = PeftClassifiers(options.backbone, options.adapters, threads=options.threads)
    loaded.load_all()
    uvicorn.run(create_app(loaded), port=options.port, access_log=False, log_level="warning")
