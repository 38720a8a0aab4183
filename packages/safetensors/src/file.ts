import { inFile, quote, reason, type Failure } from './errors.js';

/** Some rows of a tensor. */
export interface Piece<T> {
  /** The index of the first row. */
  readonly start: number;
  /** The rows as a separate tensor. */
  readonly rows: T;
}

/** What files of tensors have in common. A file's header is in memory; its tensors are read on request. */
export interface TensorFile<Spec, T> {
  /** The names of the tensors, in the order of their bytes; of a sharded model, shard by shard. */
  readonly names: readonly string[];
  /** Returns the shape and type of a tensor. @throws FormatError when there is no such tensor. */
  spec(name: string): Spec;
  /** Reads a tensor. @throws FormatError when there is no such tensor, the file is closed or reading fails. */
  read(name: string): Promise<T>;
  /**
   * Reads a tensor in pieces of whole rows of its outermost axis, at most 1 MiB each unless one row is larger. A piece
   * may overwrite the memory of the previous one.
   * @throws FormatError like `read`.
   */
  pieces(name: string): AsyncIterable<Piece<T>>;
  /** Closes the file. May be called more than once. */
  close(): Promise<void>;
}

/** A tensor and the position of its bytes. */
export interface Location<Spec> {
  readonly spec: Spec;
  /** The first byte, counted from where the data of all tensors starts. */
  readonly begin: number;
  /** The end of the bytes (exclusive), counted from there too. */
  readonly end: number;
}

/** Where the tensors of a file are, and how they are made of bytes. */
export interface Layout<Spec, T> {
  readonly locations: ReadonlyMap<string, Location<Spec>>;
  /** The first byte of the data of all tensors. */
  readonly dataStart: number;
  /** The most axes of a tensor that is not read in pieces. */
  readonly wholeRank: number;
  readonly tensorOver: (spec: Spec, bytes: Uint8Array) => T;
  /** The error of the format. */
  readonly Failure: Failure;
  /** The name of the file in messages. */
  readonly label?: string | undefined;
}

/** The size of a piece of a tensor in bytes, unless a single row is larger. */
const PIECE_BYTES = 2 ** 20;

/** Returns the file of a source whose header was read. */
export function lazyFile<Spec extends { readonly shape: readonly number[] }, T>(
  source: ByteSource,
  { locations, dataStart, wholeRank, tensorOver, Failure, label }: Layout<Spec, T>,
): TensorFile<Spec, T> {
  let open = true;
  const locationOf = (name: string): Location<Spec> => {
    const place = locations.get(name);
    if (place) return place;
    throw inFile(label, new Failure(`there is no tensor ${quote(name)} among ${locations.size}`, name));
  };
  const readAt = async (name: string, place: Location<Spec>, memory?: Uint8Array): Promise<T> => {
    const { spec, begin, end } = place;
    try {
      if (!open) throw new Failure(`cannot read tensor ${quote(name)}: the file is closed`, name);
      return tensorOver(spec, await readExactly(source, dataStart + begin, end - begin, Failure, memory));
    } catch (error) {
      throw inFile(label, error);
    }
  };
  return {
    names: [...locations.keys()],
    spec: (name) => locationOf(name).spec,
    read: async (name) => readAt(name, locationOf(name)),
    async *pieces(name) {
      const { spec, begin, end } = locationOf(name);
      const isCut = spec.shape.length > wholeRank;
      const [count = 1, ...row] = isCut ? spec.shape : [];
      const rowBytes = (end - begin) / count;
      const most = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
      const memory = new Uint8Array(Math.min(count, most) * rowBytes);
      for (let start = 0; start < count; start += most) {
        const rows = Math.min(most, count - start);
        const own = isCut ? { ...spec, shape: [rows, ...row] } : spec;
        const place = { spec: own, begin: begin + start * rowBytes, end: begin + (start + rows) * rowBytes };
        yield { start, rows: await readAt(name, place, memory) };
      }
    },
    async close() {
      if (!open) return;
      open = false;
      await source.close?.();
    },
  };
}

/** Bytes that are read in pieces, e.g. from a file, a Blob or by HTTP range requests. */
export interface ByteSource {
  /** The number of bytes. */
  readonly size: number;
  /**
   * Returns exactly `length` bytes from `offset` on; both are within `size`. If `memory` is given, the bytes may be
   * written to its start instead of new memory.
   */
  read(offset: number, length: number, memory?: Uint8Array): Promise<Uint8Array>;
  /** Frees the source. Absent if there is nothing to free. */
  close?(): Promise<void>;
}

/** Reads from a source. @throws FormatError when it fails or returns the wrong number of bytes. */
export async function readExactly(
  source: ByteSource,
  offset: number,
  length: number,
  Failure: Failure,
  memory?: Uint8Array,
): Promise<Uint8Array> {
  const range = `${length} bytes from byte ${offset} on`;
  const reading = Promise.resolve().then(() => source.read(offset, length, memory));
  const bytes = await reading.catch((cause: unknown) => {
    throw new Failure(`cannot read ${range}: ${reason(cause)}`, undefined, cause);
  });
  if (bytes.byteLength === length) return bytes;
  throw new Failure(`expected ${range}, got ${bytes.byteLength}: the file changed`);
}
