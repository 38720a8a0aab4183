import { fileSource, type ByteSource, type Piece, type TensorFile } from '@peftjs/safetensors';
import { inFile, lazyFile, readExactly, reason } from '@peftjs/safetensors/format';
import type { GgufTensor, TensorSpec } from './blocks.js';
import { GgufError } from './errors.js';
import { MAX_HEADER_BYTES, NeedsMore, parseHeader, type Header } from './header.js';
import type { MetadataValue } from './metadata.js';

/** Some rows of a tensor; a scalar or a vector is a single piece. */
export type TensorPiece = Piece<GgufTensor>;

/** An open file. Its header is in memory; its tensors are read on request. */
export interface GgufFile extends TensorFile<TensorSpec, GgufTensor> {
  /** The version of the format, 2 or 3. */
  readonly version: number;
  /** The metadata by key, in the order of the file: the network's sizes, the tokenizer, the chat template. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
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
    throw error instanceof GgufError ? inFile(from, error) : new GgufError(reason(error), from, error);
  }
}

async function openSource(source: ByteSource): Promise<GgufFile> {
  try {
    const { version, metadata, locations } = await readHeader(source);
    const layout = { locations, dataStart: 0, wholeRank: 1, tensorOver, Failure: GgufError };
    return { version, metadata, ...lazyFile(source, layout) };
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
    const bytes = await readExactly(source, 0, length, GgufError);
    try {
      return parseHeader(bytes, source.size);
    } catch (error) {
      if (!(error instanceof NeedsMore)) throw error;
    }
  }
}

function tensorOver({ type, shape }: TensorSpec, data: Uint8Array): GgufTensor {
  return { type, shape, data };
}
