import { fileSource, type ByteSource } from '@peftjs/safetensors';
import type { GgufTensor, TensorSpec } from './blocks.js';
import { GgufError, quote, reason } from './errors.js';
import { MAX_HEADER_BYTES, NeedsMore, parseHeader, type Header, type TensorLocation } from './header.js';
import type { MetadataValue } from './metadata.js';

/** Some rows of a tensor. */
export interface TensorPiece {
  /** The index of the first row. */
  readonly start: number;
  /** The rows as a separate tensor. A scalar or a vector is a single piece. */
  readonly rows: GgufTensor;
}

/** An open file. Its header is in memory; its tensors are read on request. */
export interface GgufFile {
  /** The version of the format, 2 or 3. */
  readonly version: number;
  /** The metadata by key, in the order of the file: the network's sizes, the tokenizer, the chat template. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** The names of the tensors, in the order of their bytes. */
  readonly names: readonly string[];
  /** Returns the type and shape of a tensor. @throws GgufError when there is no such tensor. */
  spec(name: string): TensorSpec;
  /** Reads a tensor. @throws GgufError when there is no such tensor, the file is closed or reading fails. */
  read(name: string): Promise<GgufTensor>;
  /**
   * Reads a tensor in pieces of whole rows of its outermost axis, at most 1 MiB each unless one row is larger. A piece
   * may overwrite the memory of the previous one.
   * @throws GgufError like `read`.
   */
  pieces(name: string): AsyncIterable<TensorPiece>;
  /** Closes the file. May be called more than once. */
  close(): Promise<void>;
}

/**
 * Opens a file by its path (in Node) or from a source, and reads only its header. The source is closed with the file,
 * and also if opening fails.
 * @throws GgufError naming the file, if it was given by its path, and the invalid tensor or key.
 */
export async function openGguf(from: string | ByteSource): Promise<GgufFile> {
  if (typeof from !== 'string') return openSource(from);
  try {
    return await openSource(await fileSource(from));
  } catch (error) {
    if (!(error instanceof GgufError)) throw new GgufError(reason(error), from, error);
    throw new GgufError(`${from}: ${error.message}`, error.path ?? from, error.cause);
  }
}

async function openSource(source: ByteSource): Promise<GgufFile> {
  try {
    return lazyFile(source, await readHeader(source));
  } catch (error) {
    await source.close?.();
    throw error;
  }
}

/** The size of the first read: the header of a model with a small vocabulary. */
const FIRST_BYTES = 2 ** 20;

async function readHeader(source: ByteSource): Promise<Header> {
  const most = Math.min(source.size, MAX_HEADER_BYTES);
  for (let length = Math.min(FIRST_BYTES, most); ; length = Math.min(4 * length, most)) {
    const bytes = await readExactly(source, 0, length);
    try {
      return parseHeader(bytes, source.size);
    } catch (error) {
      if (!(error instanceof NeedsMore)) throw error;
    }
  }
}

/** The size of a piece of a tensor in bytes, unless a single row is larger. */
const PIECE_BYTES = 2 ** 20;

function lazyFile(source: ByteSource, { version, metadata, locations }: Header): GgufFile {
  let open = true;
  const locationOf = (name: string): TensorLocation => {
    const place = locations.get(name);
    if (place) return place;
    throw new GgufError(`there is no tensor ${quote(name)} among ${locations.size}`, name);
  };
  const readAt = async (name: string, place: TensorLocation, memory?: Uint8Array): Promise<GgufTensor> => {
    if (!open) throw new GgufError(`cannot read tensor ${quote(name)}: the file is closed`, name);
    const { type, shape, begin, length } = place;
    return { type, shape, data: await readExactly(source, begin, length, memory) };
  };
  return {
    version,
    metadata,
    names: [...locations.keys()],
    spec(name) {
      const { type, shape } = locationOf(name);
      return { type, shape };
    },
    read: async (name) => readAt(name, locationOf(name)),
    async *pieces(name) {
      const { type, shape, begin, length } = locationOf(name);
      if (shape.length < 2) {
        yield { start: 0, rows: await readAt(name, { type, shape, begin, length }) };
        return;
      }
      const [count = 1, ...row] = shape;
      const rowBytes = length / count;
      const most = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
      const memory = new Uint8Array(Math.min(count, most) * rowBytes);
      for (let start = 0; start < count; start += most) {
        const rows = Math.min(most, count - start);
        const place = { type, shape: [rows, ...row], begin: begin + start * rowBytes, length: rows * rowBytes };
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

async function readExactly(
  source: ByteSource,
  offset: number,
  length: number,
  memory?: Uint8Array,
): Promise<Uint8Array> {
  const range = `${length} bytes from byte ${offset} on`;
  const bytes = await source.read(offset, length, memory).catch((cause: unknown) => {
    throw new GgufError(`cannot read ${range}: ${reason(cause)}`, undefined, cause);
  });
  if (bytes.byteLength === length) return bytes;
  throw new GgufError(`expected ${range}, got ${bytes.byteLength}: the file changed`);
}
