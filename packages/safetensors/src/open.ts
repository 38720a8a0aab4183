import { inFile, quote, reason, SafetensorsError } from './errors.js';
import { headerLength, parseHeader, PREFIX_BYTES, type Header, type TensorLocation } from './header.js';
import { tensorOver, type StoredTensor, type TensorSpec } from './tensor.js';

/** Some rows of a tensor. */
export interface TensorPiece {
  /** The index of the first row. */
  readonly start: number;
  /** The rows as a separate tensor. A scalar is a single piece. */
  readonly rows: StoredTensor;
}

/** An open file, or a sharded model. Its header is in memory; its tensors are read on request. */
export interface SafetensorsFile {
  /** The names of the tensors, in the order of their bytes; for a sharded model, shard by shard. */
  readonly names: readonly string[];
  /** The metadata, e.g. `format`; for a sharded model, that of all shards combined. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Returns the shape and element type of a tensor. @throws SafetensorsError when there is no such tensor. */
  spec(name: string): TensorSpec;
  /** Reads a tensor. @throws SafetensorsError when there is no such tensor, the file is closed or reading fails. */
  read(name: string): Promise<StoredTensor>;
  /**
   * Reads a tensor in pieces of whole rows of its outermost axis, at most 1 MiB each unless one row is larger. A piece
   * may overwrite the memory of the previous one.
   * @throws SafetensorsError like `read`.
   */
  pieces(name: string): AsyncIterable<TensorPiece>;
  /** Closes the file. May be called more than once. */
  close(): Promise<void>;
}

/**
 * Opens a file by its path (in Node) or from a source, and reads only its header. The source is closed with the file,
 * and also if opening fails.
 * @throws SafetensorsError naming the file, if it was given by its path, and the invalid tensor or key.
 */
export async function openSafetensors(from: string | ByteSource): Promise<SafetensorsFile> {
  return typeof from === 'string' ? openSource(await fileSource(from), from) : openSource(from);
}

/** Opens a source. `label` is its name in messages. */
export async function openSource(source: ByteSource, label?: string): Promise<SafetensorsFile> {
  try {
    const { header, dataStart } = await readHeader(source);
    return lazyFile(source, header, dataStart, label);
  } catch (error) {
    await source.close?.();
    throw inFile(label, error);
  }
}

async function readHeader(source: ByteSource): Promise<{ header: Header; dataStart: number }> {
  const prefix = await readExactly(source, 0, Math.min(PREFIX_BYTES, source.size));
  const length = headerLength(prefix, source.size);
  const dataStart = PREFIX_BYTES + length;
  const json = await readExactly(source, PREFIX_BYTES, length);
  return { header: parseHeader(json, source.size - dataStart), dataStart };
}

/** The size of a piece of a tensor in bytes, unless a single row is larger. */
const PIECE_BYTES = 2 ** 20;

function lazyFile(source: ByteSource, header: Header, dataStart: number, label: string | undefined): SafetensorsFile {
  let open = true;
  const locationOf = (name: string): TensorLocation => {
    const place = header.locations.get(name);
    if (place) return place;
    throw inFile(label, new SafetensorsError(`there is no tensor ${quote(name)} among ${header.locations.size}`, name));
  };
  const readTensorAt = async (name: string, place: TensorLocation, memory?: Uint8Array): Promise<StoredTensor> => {
    try {
      if (!open) throw new SafetensorsError(`cannot read tensor ${quote(name)}: the file is closed`, name);
      const length = place.end - place.begin;
      return tensorOver(place, await readExactly(source, dataStart + place.begin, length, memory));
    } catch (error) {
      throw inFile(label, error);
    }
  };
  return {
    names: [...header.locations.keys()],
    metadata: header.metadata,
    spec(name) {
      const { dtype, shape } = locationOf(name);
      return { dtype, shape };
    },
    read: async (name) => readTensorAt(name, locationOf(name)),
    async *pieces(name) {
      const { dtype, shape, begin, end } = locationOf(name);
      const [count = 1, ...row] = shape;
      const rowBytes = (end - begin) / count;
      const most = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
      const memory = new Uint8Array(Math.min(count, most) * rowBytes);
      for (let start = 0; start < count; start += most) {
        const rows = Math.min(most, count - start);
        const place = { dtype, shape: shape.length === 0 ? [] : [rows, ...row], begin: begin + start * rowBytes };
        yield { start, rows: await readTensorAt(name, { ...place, end: place.begin + rows * rowBytes }, memory) };
      }
    },
    async close() {
      if (!open) return;
      open = false;
      await source.close?.();
    },
  };
}

/**
 * Reads all tensors of a file by name, in the order of their bytes. If its elements are aligned in memory, a tensor's
 * `data` is a view of `bytes`: do not modify either while the other is in use.
 * @throws SafetensorsError naming the invalid tensor or key.
 */
export function readSafetensors(bytes: Uint8Array): Map<string, StoredTensor> {
  const dataStart = PREFIX_BYTES + headerLength(bytes, bytes.byteLength);
  const { locations } = parseHeader(bytes.subarray(PREFIX_BYTES, dataStart), bytes.byteLength - dataStart);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, place] of locations) {
    tensors.set(name, tensorOver(place, bytes.subarray(dataStart + place.begin, dataStart + place.end)));
  }
  return tensors;
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

/** Opens a source by its path. */
export type OpenSource = (path: string) => Promise<ByteSource>;

/** Returns a source for bytes in memory. Reads share their memory. */
export function bytesSource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.byteLength,
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
  };
}

/** Returns a source for a file on the disk (in Node). @throws SafetensorsError when it is missing or not a file. */
export async function fileSource(path: string): Promise<ByteSource> {
  const { open, stat } = fileSystem();
  try {
    // Opening a pipe would wait for its writer.
    const status = await stat(path);
    if (!status.isFile()) throw new SafetensorsError('it is not a file', path);
    const file = await open(path);
    return {
      size: status.size,
      close: () => file.close(),
      async read(offset, length, memory = new Uint8Array(length)) {
        const bytes = memory.subarray(0, length);
        const filled = await fill(bytes, (at, most) => file.read(bytes, at, most, offset + at));
        return bytes.subarray(0, filled);
      },
    };
  } catch (cause) {
    throw new SafetensorsError(`cannot open ${path}: ${reason(cause)}`, path, cause);
  }
}

/** Reads from a source. @throws SafetensorsError when it fails or returns the wrong number of bytes. */
export async function readExactly(
  source: ByteSource,
  offset: number,
  length: number,
  memory?: Uint8Array,
): Promise<Uint8Array> {
  const bytes = await attempt(source, offset, length, memory);
  if (bytes.byteLength === length) return bytes;
  throw new SafetensorsError(
    `expected ${length} bytes from byte ${offset} on, got ${bytes.byteLength}: the file changed`,
  );
}

async function attempt(source: ByteSource, offset: number, length: number, memory?: Uint8Array): Promise<Uint8Array> {
  try {
    return await source.read(offset, length, memory);
  } catch (cause) {
    const range = `${length} bytes from byte ${offset} on`;
    throw new SafetensorsError(`cannot read ${range}: ${reason(cause)}`, undefined, cause);
  }
}

/** The maximum number of bytes that one read reliably returns on every operating system. */
const MAX_BYTES = 2 ** 30;

async function fill(
  bytes: Uint8Array,
  readPiece: (at: number, most: number) => Promise<{ bytesRead: number }>,
): Promise<number> {
  let at = 0;
  while (at < bytes.byteLength) {
    const { bytesRead } = await readPiece(at, Math.min(bytes.byteLength - at, MAX_BYTES));
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return at;
}

function fileSystem(): typeof import('node:fs/promises') {
  const { process } = globalThis as { process?: Partial<NodeJS.Process> };
  const fs = process?.getBuiltinModule?.('node:fs/promises'); // an import would fail in bundles for pages
  if (fs) return fs;
  throw new SafetensorsError('there is no disk here: pass a ByteSource instead of a path');
}
