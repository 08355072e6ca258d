"""The model of `serving_model.py` behind FastAPI; uvicorn starts it, a process per core.

The model's file is named by BENCH_MODEL.
"""

import os

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.environ["BENCH_MODEL"])
app = FastAPI()


class Question(BaseModel):
    texts: list[str]


@app.post("/predict")
def predict(question: Question):
    answers = []
    for row in model.predict_proba(question.texts):
        best = int(row.argmax())
        answers.append({"label": str(model.classes_[best]), "probability": float(row[best])})
    return {"predictions": answers}
