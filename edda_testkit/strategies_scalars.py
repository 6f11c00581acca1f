"""JSON forms of the single values that pydantic knows: numbers, text, times, ids, addresses.

Each is a function from a node of the core schema, and the config that holds there, to a strategy
of JSON values that meet its constraints. What a bound of several kinds leaves open is drawn close
to it, so that examples stay readable.
"""

import base64
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from pydantic_core import to_jsonable_python

__all__ = ["SCALARS", "JsonStrategy", "any_json", "special", "text"]

Schema = Mapping[str, Any]
JsonStrategy = st.SearchStrategy[Any]

# Where nothing bounds them. Dates keep a year off the ends, where arithmetic overflows.
DIGITS = 9
PLACES = 6
DAYS = 3650
FIRST, LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
# pydantic compares `past` and `future` with the real clock, which tests do not have.
PAST, FUTURE = datetime(1999, 12, 31, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def text(min_size: int = 0, max_size: int | None = None) -> JsonStrategy:
    """Text that UTF-8 can carry."""
    return st.text(st.characters(codec="utf-8"), min_size=min_size, max_size=max_size)


def any_json() -> JsonStrategy:
    """Any JSON value, small."""
    leaf = st.none() | st.booleans() | st.integers() | _any_float() | text()
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text(), inner, max_size=3),
        max_leaves=5,
    )


# ---- Numbers -----------------------------------------------------------------------------------


def _int(schema: Schema, _config: Schema) -> JsonStrategy:
    least, most = _whole_bounds(schema)
    step = schema.get("multiple_of")
    if step is None:
        return st.integers(least, most)
    return _multiples(step, least, most)


def _float(schema: Schema, _config: Schema) -> JsonStrategy:
    step = schema.get("multiple_of")
    if step is not None:
        return _multiples(step, *_closed(schema))
    least = schema.get("gt", schema.get("ge"))
    most = schema.get("lt", schema.get("le"))
    return st.floats(
        _as_float(least),
        _as_float(most),
        exclude_min="gt" in schema and least is not None,
        exclude_max="lt" in schema and most is not None,
        allow_nan=False,
        allow_infinity=False,
    )


def _decimal(schema: Schema, _config: Schema) -> JsonStrategy:
    least, most = _closed(schema)
    if schema.get("multiple_of") is not None:
        return _multiples(Decimal(schema["multiple_of"]), least, most).map(_plain_digits)
    digits = schema.get("max_digits") or DIGITS + PLACES
    places = min(schema.get("decimal_places", PLACES), digits)
    whole = digits - places if "decimal_places" in schema else digits
    edge = {name: schema[name] for name in ("gt", "lt") if schema.get(name) is not None}

    def scaled(places: int) -> JsonStrategy:
        size = min(digits, whole + places)
        lowest, highest = -(10**size) + 1, 10**size - 1
        if least is not None:
            lowest = max(lowest, math.ceil(Decimal(least).scaleb(places)))
        if most is not None:
            highest = min(highest, math.floor(Decimal(most).scaleb(places)))
        lowest += "gt" in edge and Decimal(lowest).scaleb(-places) == edge["gt"]
        highest -= "lt" in edge and Decimal(highest).scaleb(-places) == edge["lt"]
        if lowest > highest:
            return st.nothing()
        return st.integers(lowest, highest).map(lambda n: _plain_digits(Decimal(n).scaleb(-places)))

    each = [scaled(count) for count in range(places + 1)]
    if all(one.is_empty for one in each):
        raise ValueError("no number meets all its bounds")
    return st.one_of(each)


def _complex(_schema: Schema, _config: Schema) -> JsonStrategy:
    return st.complex_numbers(allow_nan=False, allow_infinity=False).map(
        lambda number: str(number).strip("()")
    )


def _any_float() -> JsonStrategy:
    return st.floats(allow_nan=False, allow_infinity=False)


def _closed(schema: Schema) -> tuple[Any, Any]:
    """The bounds of a number, open ones as if they were closed."""
    least = schema.get("gt") if schema.get("ge") is None else schema["ge"]
    most = schema.get("lt") if schema.get("le") is None else schema["le"]
    return least, most


def _whole_bounds(schema: Schema) -> tuple[int | None, int | None]:
    least = [schema["ge"]] if schema.get("ge") is not None else []
    least += [schema["gt"] + 1] if schema.get("gt") is not None else []
    most = [schema["le"]] if schema.get("le") is not None else []
    most += [schema["lt"] - 1] if schema.get("lt") is not None else []
    return max(least, default=None), min(most, default=None)


def _multiples(step: Any, least: Any, most: Any) -> JsonStrategy:
    lowest = None if least is None else math.ceil(least / step)
    highest = None if most is None else math.floor(most / step)
    near = 10**DIGITS
    if lowest is None:
        lowest = -near if highest is None else min(-near, highest - near)
    if highest is None:
        highest = max(near, lowest + near)
    return st.integers(lowest, highest).map(lambda count: count * step)


def _as_float(bound: Any) -> float | None:
    return None if bound is None else float(bound)


def _plain_digits(number: Decimal) -> str:
    return format(number, "f")


# ---- Text and bytes ----------------------------------------------------------------------------


def _str(schema: Schema, config: Schema) -> JsonStrategy:
    least = schema.get("min_length", config.get("str_min_length")) or 0
    most = schema.get("max_length", config.get("str_max_length"))
    pattern = schema.get("pattern")
    if pattern is None:
        return text(least, most)
    compiled = re.compile(pattern) if isinstance(pattern, str) else pattern
    found = st.from_regex(compiled, alphabet=st.characters(codec="utf-8"))
    return found.filter(lambda one: least <= len(one) and (most is None or len(one) <= most))


def _bytes(schema: Schema, config: Schema) -> JsonStrategy:
    least, most = schema.get("min_length") or 0, schema.get("max_length")
    form = config.get("val_json_bytes", "utf8")
    if form == "base64":
        return st.binary(min_size=least, max_size=most).map(
            lambda raw: base64.urlsafe_b64encode(raw).decode()
        )
    if form == "hex":
        return st.binary(min_size=least, max_size=most).map(bytes.hex)
    # Bounds count bytes, and a character may take four.
    return text(-(-least // 4), most).filter(
        lambda one: least <= len(one.encode()) and (most is None or len(one.encode()) <= most)
    )


def _url(schema: Schema, _config: Schema) -> JsonStrategy:
    schemes = [one for one in schema.get("allowed_schemes") or ("https", "http") if one != "file"]
    host = st.from_regex(r"[a-z]{1,8}(\.[a-z]{2,3})?", fullmatch=True)
    path = st.from_regex(r"(/[a-z0-9]{1,5}){0,3}", fullmatch=True)
    return st.builds("{}://{}{}".format, st.sampled_from(schemes or ["file"]), host, path)


def _multi_host_url(schema: Schema, _config: Schema) -> JsonStrategy:
    schemes = st.sampled_from(schema.get("allowed_schemes") or ["postgresql"])
    host = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
    return st.builds("{}://user:secret@{}:{}/{}".format, schemes, host, st.integers(1, 65535), host)


def _uuid(schema: Schema, _config: Schema) -> JsonStrategy:
    version = schema.get("version")
    if version is None:
        return st.uuids().map(str)
    return st.integers(0, 2**128 - 1).map(lambda bits: str(_with_version(bits, version)))


def _with_version(bits: int, version: int) -> uuid.UUID:
    bits = bits & ~(0xF << 76) | version << 76
    return uuid.UUID(int=bits & ~(0x3 << 62) | 0x2 << 62)


# ---- Times -------------------------------------------------------------------------------------


def _date(schema: Schema, _config: Schema) -> JsonStrategy:
    least, most = _time_bounds(schema, timedelta(days=1))
    return st.dates(_or(least, FIRST.date()), _or(most, LAST.date())).map(date.isoformat)


def _datetime(schema: Schema, _config: Schema) -> JsonStrategy:
    least, most = _time_bounds(schema, timedelta(microseconds=1))
    zone = schema.get("tz_constraint")
    bounds = [one.tzinfo is not None for one in (least, most) if isinstance(one, datetime)]
    moments = st.datetimes(_naive(least, FIRST), _naive(most, LAST))
    offset = zone if isinstance(zone, int) and not isinstance(zone, bool) else None
    aware = st.builds(_aware, moments, _offsets() if offset is None else st.just(offset // 60))
    if zone == "naive" or (bounds and not any(bounds)):
        return moments.map(datetime.isoformat)
    if zone is not None or any(bounds) or schema.get("now_op"):
        return aware.map(datetime.isoformat)
    return (aware | moments).map(datetime.isoformat)


def _time(schema: Schema, _config: Schema) -> JsonStrategy:
    least, most = _time_bounds(schema, None)
    zone = schema.get("tz_constraint")
    naive = st.times(_or(least, time.min), _or(most, time.max))
    aware = st.builds(
        lambda at, minutes: at.replace(tzinfo=timezone(timedelta(minutes=minutes))),
        naive,
        _offsets(),
    )
    if zone == "naive" or least is not None or most is not None:
        return naive.map(time.isoformat)
    return (aware if zone is not None else naive | aware).map(time.isoformat)


def _timedelta(schema: Schema, _config: Schema) -> JsonStrategy:
    least, most = _time_bounds(schema, timedelta(microseconds=1))
    near = timedelta(days=DAYS)
    lowest = least if least is not None else min(-near, most - near if most is not None else -near)
    highest = most if most is not None else max(near, lowest + near)
    return st.timedeltas(lowest, highest).map(to_jsonable_python)


def _offsets() -> JsonStrategy:
    """Minutes east of UTC."""
    return st.just(0) | st.integers(-14 * 60, 14 * 60)


def _aware(moment: datetime, minutes: int) -> datetime:
    return moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))


def _time_bounds(schema: Schema, least_step: timedelta | None) -> tuple[Any, Any]:
    least = schema.get("ge")
    most = schema.get("le")
    step = least_step or timedelta(0)
    if schema.get("gt") is not None:
        least = schema["gt"] + step if least_step else schema["gt"]
    if schema.get("lt") is not None:
        most = schema["lt"] - step if least_step else schema["lt"]
    if (now := schema.get("now_op")) is not None:
        edge: Any = PAST if now == "past" else FUTURE
        edge = edge.date() if schema["type"] == "date" else edge
        least, most = (least, edge) if now == "past" else (edge, most)
    return least, most


def _naive(bound: Any, otherwise: datetime) -> datetime:
    moment = otherwise if bound is None else bound
    return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None)


def _or(bound: Any, otherwise: Any) -> Any:
    return otherwise if bound is None else bound


# ---- Choices -----------------------------------------------------------------------------------


def _literal(schema: Schema, _config: Schema) -> JsonStrategy:
    return st.sampled_from([to_jsonable_python(one) for one in schema["expected"]])


def _enum(schema: Schema, _config: Schema) -> JsonStrategy:
    return st.sampled_from([to_jsonable_python(one.value) for one in schema["members"]])


SCALARS: Mapping[str, Callable[[Schema, Schema], JsonStrategy]] = {
    "any": lambda _schema, _config: any_json(),
    "none": lambda _schema, _config: st.none(),
    "bool": lambda _schema, _config: st.booleans(),
    "int": _int,
    "float": _float,
    "decimal": _decimal,
    "complex": _complex,
    "str": _str,
    "bytes": _bytes,
    "url": _url,
    "multi-host-url": _multi_host_url,
    "uuid": _uuid,
    "date": _date,
    "datetime": _datetime,
    "time": _time,
    "timedelta": _timedelta,
    "literal": _literal,
    "enum": _enum,
}


# ---- Types that are a function to pydantic -----------------------------------------------------


def special(schema: Schema) -> JsonStrategy | None:
    """The values that a validator of pydantic's own, or a registered type's, is known to take."""
    function = schema["function"]["function"]
    owner = getattr(function, "__self__", None)
    names = (getattr(function, "__qualname__", ""), getattr(owner, "__name__", ""))
    for name in names:
        if name in SPECIAL:
            return SPECIAL[name]()
    encoder = getattr(owner, "encoder", None)  # Base64Bytes and its kin
    if encoder is not None:
        return st.binary().map(lambda raw: encoder.encode(raw).decode())
    return None


def _addresses() -> JsonStrategy:
    return st.ip_addresses().map(str)


def _of_version(version: int) -> Callable[[], JsonStrategy]:
    return lambda: st.ip_addresses(v=version).map(str)  # type: ignore[arg-type]


SPECIAL: Mapping[str, Callable[[], JsonStrategy]] = {
    "ip_v4_address_validator": _of_version(4),
    "ip_v4_network_validator": _of_version(4),
    "ip_v4_interface_validator": _of_version(4),
    "ip_v6_address_validator": _of_version(6),
    "ip_v6_network_validator": _of_version(6),
    "ip_v6_interface_validator": _of_version(6),
    "IPvAnyAddress": _addresses,
    "IPvAnyInterface": _addresses,
    "IPvAnyNetwork": _addresses,
    "EmailStr": lambda: st.from_regex(
        r"[a-z]{1,8}(\.[a-z]{1,8})?@[a-z]{2,8}\.(com|org|net)", fullmatch=True
    ),
    "ByteSize": lambda: st.integers(0, 2**63),
    "validate_str_is_valid_iana_tz": st.timezone_keys,
    "pattern_either_validator": lambda: st.sampled_from(["", "a", "[a-z]+"]),
    "pattern_str_validator": lambda: st.sampled_from(["", "a", "[a-z]+"]),
}
