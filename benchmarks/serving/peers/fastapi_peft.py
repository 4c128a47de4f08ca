"""FastAPI in front of PEFT: `set_adapter` and one padded forward a request, behind a lock.

What most people write first. The request's rows are its batch; requests never share one. Handlers run in threads, so
that parsing goes on while the model works.
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
    """The application."""
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
