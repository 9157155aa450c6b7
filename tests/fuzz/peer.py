#!/usr/bin/env python3
"""Reads files of data as NumPy, pyarrow and pandas read them, and says what is in them: a worker of the fuzzers.

A line of JSON on standard input asks for a file, a line on standard output answers: the names of the columns, and each
column as the bits of its 64-bit floats; or why the library refuses the file. It reads nothing by itself that a library
can read, and repairs nothing.
"""

import json
import struct
import sys
import warnings

import numpy
import pandas
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from pandas._libs.parsers import STR_NA_VALUES

warnings.simplefilter("ignore")

# What `runner` takes for missing besides what pandas does, in the spellings that occur.
MISSING = ["nan", "na", "n/a", "null", "none", "nil", "missing", "?", "-", "--", "nat"]
MISSING += [word.upper() for word in MISSING] + [word.capitalize() for word in MISSING]
MISSING += [word for word in STR_NA_VALUES if word not in MISSING]

# White space as Unicode has it; Python counts four separators of old files among it.
BLANKS = "".join(sign for sign in map(chr, range(0x3001)) if sign.isspace() and sign not in "\x1c\x1d\x1e\x1f")


def bits(column):
    """The bits of the values, NaN in one form."""
    values = numpy.ascontiguousarray(column, dtype="<f8").copy()
    values[numpy.isnan(values)] = numpy.nan
    return values.view("<u8").tolist()


def numpy_array(request):
    array = numpy.load(request["path"], allow_pickle=False)
    if array.ndim == 1:
        array = array.reshape(-1, 1)
    columns = [f"c{index}" for index in range(array.shape[1])]
    return columns, [array[:, index].astype("float64") for index in range(array.shape[1])]


def arrow_column(column):
    if pyarrow.types.is_boolean(column.type):
        column = column.cast(pyarrow.uint8())
    if pyarrow.types.is_decimal(column.type):
        # The nearest float, as Python rounds; pyarrow's cast multiplies by a power of ten that is rounded itself.
        return numpy.array([numpy.nan if value is None else float(value) for value in column.to_pylist()])
    column = column.cast(pyarrow.float64(), safe=False)
    return column.to_numpy()


def arrow_time(column):
    """Whole milliseconds since 1970, rounded down."""
    kind = column.type
    if pyarrow.types.is_date32(kind):
        return [day * 86_400_000 for day in column.cast(pyarrow.int32()).to_pylist()]
    units = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
    times, per = units[kind.unit] if pyarrow.types.is_timestamp(kind) else (1, 1)
    return [number * times // per for number in column.cast(pyarrow.int64()).to_pylist()]


def arrow_table(table, request):
    time = request.get("time")
    times = arrow_time(table[time]) if time else None
    names = [name for name in table.column_names if name != time]
    columns = [arrow_column(table[name]) for name in names]
    if request["drop"]:
        whole = ~numpy.isnan(numpy.column_stack(columns)).any(axis=1)
        columns = [column[whole] for column in columns]
        times = [each for each, is_whole in zip(times, whole) if is_whole]
    return names, columns, times


def parquet_file(request):
    # The file alone: `read_table` would look at the names of the folders above it, too.
    return arrow_table(pyarrow.parquet.ParquetFile(request["path"]).read(), request)


def arrow_file(request):
    with open(request["path"], "rb") as file:
        is_file = file.read(6) == b"ARROW1"
    with pyarrow.OSFile(request["path"]) as file:
        open_it = pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream
        return arrow_table(open_it(file).read_all(), request)


def text(request):
    with open(request["path"], "rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    table = pandas.read_csv(
        request["path"],
        sep=request["delimiter"],
        header=0 if request["header"] else None,
        decimal=request["decimal"],
        thousands=request["thousands"],
        index_col=False,
        skipinitialspace=True,
        na_values=MISSING,
        float_precision="round_trip",
        compression="gzip" if is_packed else None,
        encoding_errors="replace",
        dtype={request["time"]: str} if request.get("time") else None,
    )
    if request["header"]:
        names = [str(name).strip(BLANKS) for name in table.columns]
        names = ["" if name.startswith("Unnamed: ") else name for name in names]
    else:
        names = [f"c{index}" for index in range(table.shape[1])]
    table.columns = names
    time = request.get("time")
    # By their places: names that blanks alone told apart are the same by now.
    places = [place for place, name in enumerate(names) if name != time]
    values = [names[place] for place in places]
    for place, name in enumerate(names):
        column = table.iloc[:, place]
        if name != time and column.dtype == bool:
            raise ValueError(f"{name} holds True and False")
        if name != time and not pandas.api.types.is_numeric_dtype(column):
            # `runner` leaves out blanks behind a field, too.
            missing = column.map(lambda field: isinstance(field, str) and field.strip(BLANKS) in MISSING)
            table = table.copy()
            table.isetitem(place, column.mask(missing))
    if request["drop"]:
        # What pandas keeps as text, such as `NaN` with a blank behind it, is a number after all, and may be missing.
        whole = table.iloc[:, places].astype("float64").notna().all(axis=1)
        table = table[whole]
    times = None
    if time:
        stamps = pandas.to_datetime(table[time].str.strip(BLANKS), utc=True, format="ISO8601")
        nanoseconds = stamps.astype("datetime64[ns, UTC]").astype("int64")
        times = [int(number) // 1_000_000 for number in nanoseconds]
    columns = [table.iloc[:, place] for place in places]
    return values, [column.astype("float64").to_numpy() for column in columns], times


READERS = {"npy": numpy_array, "parquet": parquet_file, "arrow": arrow_file, "csv": text}


def answer(request):
    try:
        columns, values, *times = READERS[request["format"]](request)
        times = times[0] if times else None
        return {"columns": columns, "values": [bits(column) for column in values], "times": times}
    except (MemoryError, RecursionError) as error:
        return {"gave_up": repr(error)}
    except Exception as error:  # Whatever a library says of a file is an answer.
        return {"refused": f"{type(error).__name__}: {error}"[:2000]}


def main():
    assert struct.pack("=d", 1.0) == struct.pack("<d", 1.0), "the bits are those of little-endian machines"
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
