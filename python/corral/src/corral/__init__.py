"""Corral: classifiers from text and a taxonomy.

import corral

client = corral.connect()
client.datasets.create("tickets", frame, text="subject", label="queue")
job = client.train("support", dataset="tickets").wait()
client.deploy(job.model)
client.predict("support", "my parcel never came").label
"""

from .async_client import AsyncClient, AsyncJob
from .client import Client, Job, connect
from .errors import (
    ConflictError,
    CorralError,
    DamagedError,
    DeadlineError,
    ExhaustedError,
    ForbiddenError,
    InternalError,
    InvalidError,
    JobFailed,
    NotFoundError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from .options import (
    BatchOptions,
    CanaryOptions,
    DriftOptions,
    ImportOptions,
    LogOptions,
    PredictOptions,
    TrainOptions,
)
from .report import Report
from .tables import Predictions, Runs, Table
from .types import (
    Class,
    Dataset,
    Encoder,
    Endpoint,
    Info,
    JobDetail,
    JobEvent,
    Label,
    Match,
    Model,
    Prediction,
    Refusal,
    Run,
    Taxonomy,
    Usage,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BatchOptions",
    "CanaryOptions",
    "Class",
    "Client",
    "ConflictError",
    "CorralError",
    "DamagedError",
    "Dataset",
    "DeadlineError",
    "DriftOptions",
    "Encoder",
    "Endpoint",
    "ExhaustedError",
    "ForbiddenError",
    "ImportOptions",
    "Info",
    "InternalError",
    "InvalidError",
    "Job",
    "JobDetail",
    "JobEvent",
    "JobFailed",
    "Label",
    "LogOptions",
    "Match",
    "Model",
    "NotFoundError",
    "PredictOptions",
    "Prediction",
    "Predictions",
    "Refusal",
    "Report",
    "Run",
    "Runs",
    "Table",
    "Taxonomy",
    "TooLargeError",
    "TrainOptions",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
    "Usage",
    "connect",
]
