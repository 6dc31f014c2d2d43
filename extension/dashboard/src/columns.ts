// Binary messages: u32 header length, JSON header, padding to 8, then each array padded to 8, all little-endian.
import type { ColumnsHeader, Series } from "./protocol";

export interface Columns {
  header: ColumnsHeader;
  arrays: Map<string, Float64Array>;
}

const SIZES = { f8: 8, f4: 4, i8: 8, i4: 4, u1: 1 } as const;

const padded = (bytes: number): number => Math.ceil(bytes / 8) * 8;

function element(view: DataView, dtype: keyof typeof SIZES, at: number): number {
  switch (dtype) {
    case "f8":
      return view.getFloat64(at, true);
    case "f4":
      return view.getFloat32(at, true);
    case "i8":
      return Number(view.getBigInt64(at, true));
    case "i4":
      return view.getInt32(at, true);
    case "u1":
      return view.getUint8(at);
  }
}

/** Throws a RangeError if the message is shorter than its header says. */
export function decodeColumns(buffer: ArrayBuffer): Columns {
  const view = new DataView(buffer);
  const length = view.getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))) as ColumnsHeader;
  const arrays = new Map<string, Float64Array>();
  let at = padded(4 + length);
  for (const { name, dtype, count } of header.columns) {
    const size = SIZES[dtype];
    arrays.set(name, Float64Array.from({ length: count }, (_, place) => element(view, dtype, at + place * size)));
    at += padded(count * size);
  }
  return { header, arrays };
}

/** A table that was asked for, as if it had come as a message: all that there is of a metric. */
export function tableColumns({ session, run, name, cursor, bucketed, ...table }: Series): Columns {
  const names = ["step", "epoch", "time", "value", ...(bucketed ? (["low", "high"] as const) : [])] as const;
  const arrays = new Map(names.map((column) => [column, Float64Array.from(table[column], number)]));
  return { header: { session, run, metric: name, reset: true, cursor, columns: [] }, arrays };
}

/** JSON has no word for these. */
function number(value: number | string): number {
  return typeof value === "number" ? value : { inf: Infinity, "-inf": -Infinity }[value] ?? NaN;
}
