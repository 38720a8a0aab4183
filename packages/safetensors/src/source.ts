import { reason, SafetensorsError } from './errors.js';

/** Bytes read in pieces: a file, a Blob, a range of HTTP requests. */
export interface ByteSource {
  /** Number of bytes. */
  readonly size: number;
  /** Exactly `length` bytes from `offset` on, which both lie within `size`. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close?(): Promise<void>;
}

/** Opens a source by its path. */
export type OpenSource = (path: string) => Promise<ByteSource>;

/** Bytes in memory as a source; what is read from it shares their memory. */
export function bytesSource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.byteLength,
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
  };
}

/** A file of the disk as a source, through Node's file system. @throws SafetensorsError when it is missing or no file. */
export async function fileSource(path: string): Promise<ByteSource> {
  const { open, stat } = await fileSystem();
  try {
    // Opening a pipe would wait for its writer.
    const status = await stat(path);
    if (!status.isFile()) throw new SafetensorsError('it is not a file', path);
    const file = await open(path);
    return {
      size: status.size,
      close: () => file.close(),
      async read(offset, length) {
        const bytes = new Uint8Array(length);
        const filled = await fill(bytes, (at, most) => file.read(bytes, at, most, offset + at));
        return bytes.subarray(0, filled);
      },
    };
  } catch (cause) {
    throw new SafetensorsError(`cannot open ${path}: ${reason(cause)}`, path, cause);
  }
}

/** Reads from a source and holds it to its promise. @throws SafetensorsError when it fails or gives another number of bytes. */
export async function readExactly(source: ByteSource, offset: number, length: number): Promise<Uint8Array> {
  const bytes = await attempt(source, offset, length);
  if (bytes.byteLength === length) return bytes;
  throw new SafetensorsError(
    `expected ${length} bytes from byte ${offset} on, got ${bytes.byteLength}: the file changed`,
  );
}

async function attempt(source: ByteSource, offset: number, length: number): Promise<Uint8Array> {
  try {
    return await source.read(offset, length);
  } catch (cause) {
    const range = `${length} bytes from byte ${offset} on`;
    throw new SafetensorsError(`cannot read ${range}: ${reason(cause)}`, undefined, cause);
  }
}

/** Most bytes that one call of the operating system reads everywhere. */
const PIECE_BYTES = 2 ** 30;

async function fill(
  bytes: Uint8Array,
  readPiece: (at: number, most: number) => Promise<{ bytesRead: number }>,
): Promise<number> {
  let at = 0;
  while (at < bytes.byteLength) {
    const { bytesRead } = await readPiece(at, Math.min(bytes.byteLength - at, PIECE_BYTES));
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return at;
}

async function fileSystem(): Promise<typeof import('node:fs/promises')> {
  try {
    return await import(/* @vite-ignore */ 'node:fs/promises');
  } catch (cause) {
    throw new SafetensorsError('there is no disk here: pass a ByteSource in place of a path', undefined, cause);
  }
}
