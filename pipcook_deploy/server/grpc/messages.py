"""Message classes made from `schema`, in a pool of their own.

A client library in the same process may have registered the same names in protobuf's default pool; two
definitions in one pool would be an error.
"""

from functools import cache
from typing import Any

from pipcook_deploy.server.grpc.schema import ENUMS, MESSAGES, PACKAGE

FILE = "pipcook_deploy/inference.proto"


@cache
def messages() -> dict[str, Any]:
    """Message classes by name."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    pool = DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES
    }


def _file() -> Any:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    file = FileDescriptorProto(name=FILE, package=PACKAGE, syntax="proto3")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for row in filter(None, fields.split(", ")):
            place, field, kind = row.split()
            _add(message, int(place), field, kind)
    return file


def _add(message: Any, number: int, name: str, kind: str) -> None:
    if kind.startswith("{"):
        entry = _entry(message, name, kind.strip("{}"))
        _set_kind(message.field.add(name=name, number=number), f"{entry}*")
        return
    field = message.field.add(name=name, number=number)
    _set_kind(field, kind.rstrip("?"))
    if kind.endswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0


def _entry(message: Any, field: str, kind: str) -> str:
    """Maps are repeated messages of key and value, nested in the message that has the map."""
    name = "".join(part.capitalize() for part in field.split("_")) + "Entry"
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    _set_kind(entry.field.add(name="key", number=1), "string")
    _set_kind(entry.field.add(name="value", number=2), kind)
    return f"{message.name}.{name}"


def _set_kind(field: Any, kind: str) -> None:
    repeated, kind = kind.endswith("*"), kind.rstrip("*")
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind in ENUMS or kind.split(".")[0] in MESSAGES:
        field.type = field.TYPE_ENUM if kind in ENUMS else field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
