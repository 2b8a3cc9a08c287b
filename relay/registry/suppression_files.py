"""registry.suppression_files: suppressions as text that other systems read and write.

Two formats with the same fields: CSV, whose first line names the columns, and JSON lines, one object a line. Only
`address` is required when reading; without a cause it is "manual", without a time now, without an expiry for good.
Times are ISO 8601 in UTC when written; a number of POSIX seconds is taken too. What was written reads back equal,
times to the microsecond.

A line that cannot be taken is a DataError with the number of the line, and what to do; nothing before it was imported.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum

from relay.errors import DataError
from relay.mail.address import AddressError, parse
from relay.mail.suppression import Cause, Suppression

FIELDS = tuple(field.name for field in fields(Suppression))
BYTE_ORDER_MARK = "\ufeff"  # what spreadsheet programs put before UTF-8
_CAUSES = ", ".join(Cause)


class Format(StrEnum):
    CSV = "csv"
    JSON_LINES = "jsonl"


def write(suppressions: Iterable[Suppression], form: Format) -> str:
    """Their lines; for CSV without the header, ended by CRLF (RFC 4180 2), so that a CR in a reply is quoted too."""
    records = map(_record, suppressions)
    if form is Format.JSON_LINES:
        return "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(record.values() for record in records)
    return text.getvalue()


def header(form: Format) -> str:
    """What a file begins with."""
    return f"{','.join(FIELDS)}\r\n" if form is Format.CSV else ""


def read(lines: Iterable[str], form: Format, *, now: float) -> Iterator[Suppression]:
    """lines: with their line ends, from a file opened with newline="". Raises DataError."""
    records = _csv_records(lines) if form is Format.CSV else _json_records(lines)
    number = 0
    try:
        for number, record in records:
            yield _suppression(record, number=number, now=now)
    except UnicodeDecodeError:
        raise _wrong(number + 1, "what follows is not UTF-8") from None


def _record(suppression: Suppression) -> dict[str, str]:
    return {
        "address": suppression.address,
        "cause": suppression.cause.value,
        "created_at": _time_text(suppression.created_at),
        "expires_at": _time_text(suppression.expires_at) if suppression.expires_at else "",
        "scope": suppression.scope,
        "message": suppression.message,
        "reply": suppression.reply,
    }


def _csv_records(lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.reader(lines, strict=True)
    try:
        columns = [name.removeprefix(BYTE_ORDER_MARK).strip().lower() for name in next(reader, [])]
        _check_columns(columns)
        for row in reader:
            if row:
                yield reader.line_num, _csv_record(columns, row, number=reader.line_num)
    except csv.Error as error:
        raise _wrong(reader.line_num, f"it is no CSV: {error}") from None


def _csv_record(columns: list[str], row: list[str], *, number: int) -> Mapping[str, object]:
    if len(row) > len(columns):
        raise _wrong(number, f"it has {len(row)} values for {len(columns)} columns")
    return dict(zip(columns, row, strict=False))


def _check_columns(columns: list[str]) -> None:
    if "address" not in columns:
        raise DataError('line 1 names no column "address"', remedy=f"Begin with a line of columns: {','.join(FIELDS)}")
    _check_fields(columns, number=1)


def _json_records(lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _wrong(number, f"it is no JSON: {error}") from None
        if not isinstance(record, dict):
            raise _wrong(number, "it is no JSON object")
        _check_fields(record, number=number)
        yield number, record


def _check_fields(names: Iterable[str], *, number: int) -> None:
    unknown = sorted(set(names) - set(FIELDS))
    if unknown:
        raise _wrong(number, f'"{unknown[0]}" is no field')


def _suppression(record: Mapping[str, object], *, number: int, now: float) -> Suppression:
    try:
        return _checked(record, now=now)
    except (ValueError, OverflowError) as error:
        raise _wrong(number, str(error)) from None


def _checked(record: Mapping[str, object], *, now: float) -> Suppression:
    return Suppression(
        address=_address(_text(record, "address")),
        cause=_cause(_text(record, "cause")),
        created_at=_time(record, "created_at", default=now),
        expires_at=_time(record, "expires_at", default=0.0),
        scope=_text(record, "scope") or "all",
        message=_text(record, "message"),
        reply=_text(record, "reply"),
    )


def _text(record: Mapping[str, object], name: str) -> str:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    if value and not _is_whole(value):
        raise ValueError(f"{name} is not Unicode")
    return value or ""


def _is_whole(text: str) -> bool:
    """Without half of a surrogate pair, which JSON can spell and nothing can store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _address(text: str) -> str:
    try:
        return parse(text.strip())
    except AddressError as error:
        raise ValueError(f'"{text}": {error}') from None


def _cause(text: str) -> Cause:
    try:
        return Cause(text or Cause.MANUAL)
    except ValueError:
        raise ValueError(f'"{text}" is no cause; there are {_CAUSES}') from None


def _time(record: Mapping[str, object], name: str, *, default: float) -> float:
    value = record.get(name)
    if value is None or value == "":
        return default
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = _iso_time(str(value), name)
    if not 0 <= seconds < 1e11:  # the year 5138; beyond it datetime cannot write what it reads
        raise ValueError(f'{name} "{value}" is out of range')
    return seconds


def _iso_time(text: str, name: str) -> float:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'{name} "{text}" is no time; write 2026-11-20T10:00:00Z or POSIX seconds') from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _time_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _wrong(number: int, why: str) -> DataError:
    return DataError(f"line {number}: {why}", remedy="Correct the line and import again; nothing was imported.")
