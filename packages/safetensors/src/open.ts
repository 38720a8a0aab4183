import { inFile, reason, SafetensorsError } from './errors.js';
import { lazyFile, readExactly, type ByteSource, type Piece, type TensorFile } from './file.js';
import { headerLength, parseHeader, PREFIX_BYTES } from './header.js';
import { tensorOver, type StoredTensor, type TensorSpec } from './tensor.js';

/** Some rows of a tensor; a scalar is a single piece. */
export type TensorPiece = Piece<StoredTensor>;

/** An open file, or a sharded model. Its header is in memory; its tensors are read on request. */
export interface SafetensorsFile extends TensorFile<TensorSpec, StoredTensor> {
  /** The metadata, e.g. `format`; for a sharded model, that of all shards combined. */
  readonly metadata: Readonly<Record<string, string>>;
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
    const prefix = await readExactly(source, 0, Math.min(PREFIX_BYTES, source.size), SafetensorsError);
    const length = headerLength(prefix, source.size);
    const dataStart = PREFIX_BYTES + length;
    const json = await readExactly(source, PREFIX_BYTES, length, SafetensorsError);
    const { metadata, locations } = parseHeader(json, source.size - dataStart);
    const layout = { locations, dataStart, wholeRank: 0, tensorOver, Failure: SafetensorsError, label };
    return { metadata, ...lazyFile(source, layout) };
  } catch (error) {
    await source.close?.();
    throw inFile(label, error);
  }
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
  for (const [name, { spec, begin, end }] of locations) {
    tensors.set(name, tensorOver(spec, bytes.subarray(dataStart + begin, dataStart + end)));
  }
  return tensors;
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
