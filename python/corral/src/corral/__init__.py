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
    CallFailed,
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
    LabelOptions,
    LogOptions,
    PredictOptions,
    TrainOptions,
)
from .report import Report
from .tables import Predictions, Runs, Table
from .types import (
    App,
    Class,
    Container,
    Dataset,
    Encoder,
    Endpoint,
    Function,
    FunctionCall,
    FunctionChanges,
    FunctionList,
    FunctionTest,
    Info,
    JobDetail,
    JobEvent,
    Label,
    LabelingFunction,
    LabelingRow,
    LabelingStatistics,
    Match,
    Model,
    Prediction,
    Refusal,
    Run,
    Suggestion,
    Taxonomy,
    Usage,
)

__version__ = "0.1.0"

__all__ = [
    "App",
    "AsyncClient",
    "AsyncJob",
    "BatchOptions",
    "CallFailed",
    "CanaryOptions",
    "Class",
    "Client",
    "ConflictError",
    "Container",
    "CorralError",
    "DamagedError",
    "Dataset",
    "DeadlineError",
    "DriftOptions",
    "Encoder",
    "Endpoint",
    "ExhaustedError",
    "ForbiddenError",
    "Function",
    "FunctionCall",
    "FunctionChanges",
    "FunctionList",
    "FunctionTest",
    "ImportOptions",
    "Info",
    "InternalError",
    "InvalidError",
    "Job",
    "JobDetail",
    "JobEvent",
    "JobFailed",
    "Label",
    "LabelOptions",
    "LabelingFunction",
    "LabelingRow",
    "LabelingStatistics",
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
    "Suggestion",
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
