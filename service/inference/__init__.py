"""Event-loop side of classification: from a text to a calibrated prediction.

`Classifier` resolves the task, `InferencePipeline` renders, tokenizes, admits and submits rows to the engine.
"""
