import { dtypeNamed } from './dtype.js';
import { quote, SafetensorsError } from './errors.js';
import { JsonReader } from './json.js';
import { byteLengthOf, MAX_RANK, type TensorSpec } from './tensor.js';

/** Bytes before the header: its length as a little-endian 64-bit integer. */
export const PREFIX_BYTES = 8;
/** The reference implementation's limit. */
export const MAX_HEADER_BYTES = 100_000_000;
/** The key of the header that is no tensor. */
export const METADATA_KEY = '__metadata__';

/** A tensor and the bytes that hold it, counted from the end of the header. */
export interface TensorPlace extends TensorSpec {
  readonly begin: number;
  readonly end: number;
}

/** What a file says of itself. */
export interface Header {
  /** By tensor name, in the order of their bytes. */
  readonly places: ReadonlyMap<string, TensorPlace>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Bytes of the header of a file of `fileBytes` that begins with `prefix`. @throws SafetensorsError when it cannot be. */
export function headerLength(prefix: Uint8Array, fileBytes: number): number {
  if (fileBytes < PREFIX_BYTES) {
    throw new SafetensorsError(`the file has ${fileBytes} bytes, a safetensors file has at least ${PREFIX_BYTES}`);
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    throw new SafetensorsError(
      `the first 8 bytes announce a header of ${length} bytes, at most ${MAX_HEADER_BYTES} are read: is this a safetensors file?`,
    );
  }
  if (length > fileBytes - PREFIX_BYTES) {
    throw new SafetensorsError(
      `a header of ${length} bytes is announced, the file has ${fileBytes} bytes: it is truncated or no safetensors file`,
    );
  }
  return Number(length);
}

/**
 * Reads a header by the reference implementation's rules: tensors follow one another and fill the file, each has the bytes
 * that its shape needs. Stricter than it: a name comes once, ranks, sizes and counts are bounded.
 * @throws SafetensorsError naming the tensor or key at fault.
 */
export function parseHeader(json: Uint8Array, dataBytes: number): Header {
  if (json[0] !== 0x7b) throw new SafetensorsError("the header must begin with '{': this is no safetensors file");
  const reader = new JsonReader(json, 'header');
  const places: [string, TensorPlace][] = [];
  let metadata: Record<string, string> = bareRecord();
  reader.object((key) => {
    if (key === METADATA_KEY) metadata = readMetadata(reader);
    else places.push([key, readPlace(reader, key)]);
  });
  reader.end();
  places.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  checkCoverage(places, dataBytes);
  return { places: new Map(places), metadata };
}

function readPlace(reader: JsonReader, name: string): TensorPlace {
  const fields: { dtype?: string; shape?: number[]; offsets?: number[] } = {};
  reader.object((field) => {
    if (field === 'dtype') fields.dtype = reader.string();
    else if (field === 'shape') fields.shape = reader.integers(MAX_RANK);
    else if (field === 'data_offsets') fields.offsets = reader.integers(2);
    else reader.skip();
  });
  const { dtype, shape, offsets: [begin, end] = [] } = fields;
  if (dtype === undefined || shape === undefined || begin === undefined || end === undefined) {
    throw new SafetensorsError(`tensor ${quote(name)} needs dtype, shape and data_offsets of two integers`, name);
  }
  return checkedSize(name, { dtype: dtypeNamed(dtype, name), shape, begin, end });
}

function checkedSize(name: string, place: TensorPlace): TensorPlace {
  const needed = byteLengthOf(name, place);
  if (place.end - place.begin === needed) return place;
  const { dtype, shape, begin, end } = place;
  throw new SafetensorsError(
    `tensor ${quote(name)}: ${dtype} of shape [${shape.join(', ')}] takes ${needed} bytes, data_offsets [${begin}, ${end}] give ${end - begin}`,
    name,
  );
}

function readMetadata(reader: JsonReader): Record<string, string> {
  const metadata = bareRecord();
  reader.object((key) => {
    metadata[key] = reader.string();
  });
  return metadata;
}

function checkCoverage(places: readonly (readonly [string, TensorPlace])[], dataBytes: number): void {
  let covered = 0;
  for (const [name, { begin, end }] of places) {
    if (begin !== covered) {
      const fault = begin < covered ? 'overlaps the tensor before it' : 'leaves a gap before it';
      throw new SafetensorsError(
        `tensor ${quote(name)} ${fault}: it begins at byte ${begin} of the data, expected ${covered}`,
        name,
      );
    }
    if (end > dataBytes) {
      throw new SafetensorsError(
        `tensor ${quote(name)} ends at byte ${end} of the data, the file has ${dataBytes}: it is truncated`,
        name,
      );
    }
    covered = end;
  }
  if (covered !== dataBytes) {
    throw new SafetensorsError(`the tensors fill ${covered} bytes, the file has ${dataBytes} bytes of data`);
  }
}

/** An empty record without prototype, in which `__proto__` is a key like any other. */
export function bareRecord(): Record<string, string> {
  return Object.create(null) as Record<string, string>;
}
