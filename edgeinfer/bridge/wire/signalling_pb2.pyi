from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Paradigm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPLIT: _ClassVar[Paradigm]
    EDGE: _ClassVar[Paradigm]
SPLIT: Paradigm
EDGE: Paradigm

class ResourceStatus(_message.Message):
    __slots__ = ("decode_step_seconds", "queue_length", "memory_bytes")
    DECODE_STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    decode_step_seconds: float
    queue_length: int
    memory_bytes: int
    def __init__(self, decode_step_seconds: _Optional[float] = ..., queue_length: _Optional[int] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class TaskRequest(_message.Message):
    __slots__ = ("request_id", "caption", "seed", "paradigm", "prior_steps", "decode_steps", "quality", "deadline", "wire", "cascade", "status")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PARADIGM_FIELD_NUMBER: _ClassVar[int]
    PRIOR_STEPS_FIELD_NUMBER: _ClassVar[int]
    DECODE_STEPS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    WIRE_FIELD_NUMBER: _ClassVar[int]
    CASCADE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    caption: str
    seed: int
    paradigm: Paradigm
    prior_steps: int
    decode_steps: int
    quality: float
    deadline: float
    wire: str
    cascade: str
    status: ResourceStatus
    def __init__(self, request_id: _Optional[str] = ..., caption: _Optional[str] = ..., seed: _Optional[int] = ..., paradigm: _Optional[_Union[Paradigm, str]] = ..., prior_steps: _Optional[int] = ..., decode_steps: _Optional[int] = ..., quality: _Optional[float] = ..., deadline: _Optional[float] = ..., wire: _Optional[str] = ..., cascade: _Optional[str] = ..., status: _Optional[_Union[ResourceStatus, _Mapping]] = ...) -> None: ...

class StepAllocation(_message.Message):
    __slots__ = ("request_id", "prior_steps", "decode_steps", "queue_length", "expected_seconds", "received", "sent")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PRIOR_STEPS_FIELD_NUMBER: _ClassVar[int]
    DECODE_STEPS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prior_steps: int
    decode_steps: int
    queue_length: int
    expected_seconds: float
    received: float
    sent: float
    def __init__(self, request_id: _Optional[str] = ..., prior_steps: _Optional[int] = ..., decode_steps: _Optional[int] = ..., queue_length: _Optional[int] = ..., expected_seconds: _Optional[float] = ..., received: _Optional[float] = ..., sent: _Optional[float] = ...) -> None: ...
