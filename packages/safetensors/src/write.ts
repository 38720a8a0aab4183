import { byteLengthOf, bytesOf, dtypeNamed, holds, layoutRank, type StoredTensor } from './tensor.js';
import { quote, reason, SafetensorsError, type Failure } from './errors.js';
import { MAX_HEADER_BYTES, MAX_KEYS, METADATA_KEY, PREFIX_BYTES } from './header.js';

/** Values by name, as a map or a plain object. */
export type Named<T> = ReadonlyMap<string, T> | Readonly<Record<string, T>>;

const HEADER_ALIGNMENT = 8;

/**
 * Returns a file of these tensors, byte for byte as the reference implementation writes it: a header padded to 8 bytes,
 * then the tensors, widest elements first, then by name. Metadata is sorted (the reference's order is random), so equal
 * content gives equal bytes.
 * @throws SafetensorsError naming the tensor or key that cannot be written.
 */
export function writeSafetensors(tensors: Named<StoredTensor>, metadata?: Named<string>): Uint8Array {
  const pieces = laidOut(tensors);
  const header = encodedHeader([...(metadata ? [metadataMember(metadata)] : []), ...pieces.map(tensorMember)]);
  const file = allocated(PREFIX_BYTES + header.byteLength + (pieces.at(-1)?.end ?? 0), SafetensorsError);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.byteLength), true);
  file.set(header, PREFIX_BYTES);
  const data = file.subarray(PREFIX_BYTES + header.byteLength);
  for (const { bytes, begin } of pieces) data.set(bytes, begin);
  return file;
}

/** A tensor's bytes and their position, counted from the end of the header. */
interface Piece {
  readonly name: string;
  readonly tensor: StoredTensor;
  readonly bytes: Uint8Array;
  readonly begin: number;
  readonly end: number;
}

function laidOut(tensors: Named<StoredTensor>): Piece[] {
  const entries = checkedEntries(tensors, 'tensors');
  for (const [name, tensor] of entries) checkTensor(name, tensor);
  entries.sort(
    ([a, { dtype: left }], [b, { dtype: right }]) => layoutRank(left) - layoutRank(right) || byCodePoint(a, b),
  );
  let end = 0;
  return entries.map(([name, tensor]) => {
    const begin = end;
    end += tensor.data.byteLength;
    return { name, tensor, bytes: bytesOf(tensor.data), begin, end };
  });
}

function checkTensor(name: string, tensor: StoredTensor): void {
  checkText(name, 'tensor name', name);
  if (name === METADATA_KEY) throw new SafetensorsError(`'${METADATA_KEY}' cannot be a tensor's name`, name);
  const { dtype, shape, data } = tensor;
  if (!holds(dtypeNamed(dtype, name), data)) {
    throw new SafetensorsError(`tensor ${quote(name)}: data is not an array of ${dtype} elements`, name);
  }
  const needed = byteLengthOf(name, tensor);
  if (data.byteLength !== needed) {
    throw new SafetensorsError(
      `tensor ${quote(name)}: ${dtype} of shape [${shape.join(', ')}] takes ${needed} bytes, its data has ${data.byteLength}`,
      name,
    );
  }
}

function metadataMember(metadata: Named<string>): string {
  const members = checkedEntries(metadata, 'entries of metadata')
    .sort(([a], [b]) => byCodePoint(a, b))
    .map(([key, value]) => {
      checkText(key, 'metadata key', key);
      checkText(value, `metadata of ${quote(key)}`, key);
      return `${JSON.stringify(key)}:${JSON.stringify(value)}`;
    });
  return `"${METADATA_KEY}":{${members.join(',')}}`;
}

function tensorMember({ name, tensor, begin, end }: Piece): string {
  const { dtype, shape } = tensor;
  return `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${begin},${end}]}`;
}

/** Joins the members by hand, because an object would move names like '10' to the front. */
function encodedHeader(members: readonly string[]): Uint8Array {
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const length = Math.ceil(json.byteLength / HEADER_ALIGNMENT) * HEADER_ALIGNMENT;
  if (length > MAX_HEADER_BYTES) {
    throw new SafetensorsError(
      `names and metadata need a header of ${length} bytes, at most ${MAX_HEADER_BYTES} are allowed`,
    );
  }
  const header = new Uint8Array(length).fill(0x20);
  header.set(json);
  return header;
}

function checkText(text: unknown, what: string, key: string): void {
  if (typeof text === 'string' && text.isWellFormed()) return;
  throw new SafetensorsError(`${what} must be a string of Unicode characters, got ${quote(String(text))}`, key);
}

/** Returns the memory of a file. @throws FormatError when there is not so much. */
export function allocated(bytes: number, Failure: Failure): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw new Failure(`cannot hold a file of ${bytes} bytes in memory: ${reason(cause)}`, undefined, cause);
  }
}

/** Returns the values with their names. */
export function entriesOf<T>(named: Named<T>): [string, T][] {
  return named instanceof Map
    ? [...(named as ReadonlyMap<string, T>)]
    : Object.entries(named as Readonly<Record<string, T>>);
}

function checkedEntries<T>(named: Named<T>, what: string): [string, T][] {
  const entries = entriesOf(named);
  if (entries.length < MAX_KEYS) return entries;
  throw new SafetensorsError(`expected fewer than ${MAX_KEYS} ${what} in one file, got ${entries.length}`);
}

/** Compares names by their UTF-8 bytes. JavaScript's own order compares UTF-16 units. */
function byCodePoint(a: string, b: string): number {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  return (a.codePointAt(at) ?? -1) - (b.codePointAt(at) ?? -1);
}
