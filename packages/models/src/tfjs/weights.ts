/**
 * Reads the weights of a TF.js graph model: `model.json` lists the tensors, and `group1-shard1of7`, .. hold their bytes
 * in order.
 */
import { CheckpointError, sizeOf, type HostTensor } from '@peftjs/core/method';
import type { DType } from '@peftjs/core/model';
import type { ModelFolder } from '../folder.js';
import { field, fileError, listField, shown } from '../json.js';

/** The file that lists the weights. */
export const MANIFEST_FILE = 'model.json';

/** Limits beyond any real model. They stop a broken or hostile manifest before memory is allocated. */
const LIMITS = { manifestBytes: 64 * 2 ** 20, tensors: 20_000, shards: 2_000, rank: 8, weightBytes: 2 ** 30 };

const BYTES_PER_VALUE = 4;

/** A tensor that the manifest declares. */
interface DeclaredTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** Tensors whose bytes follow each other across a list of shards. */
interface Group {
  readonly shards: readonly string[];
  readonly tensors: readonly DeclaredTensor[];
}

/** The content of a model.json. */
interface Manifest {
  readonly groups: readonly Group[];
  readonly tensors: ReadonlyMap<string, DeclaredTensor>;
  readonly totalBytes: number;
}

/** Reads and checks the list of tensors, without the weights. @throws CheckpointError naming the invalid part. */
export async function readManifest(folder: ModelFolder): Promise<Manifest> {
  const file = folder.pathOf(MANIFEST_FILE);
  const content = await folder.json(MANIFEST_FILE, LIMITS.manifestBytes);
  const groups = listField(content, 'weightsManifest', file).map((group) => parseGroup(group, file));
  const declared = groups.flatMap((group) => group.tensors);
  const tensors = new Map(declared.map((tensor) => [tensor.name, tensor]));
  const totalBytes = byteLength(declared);
  atMost(declared.length, LIMITS.tensors, 'tensors', file);
  atMost(groups.flatMap((group) => group.shards).length, LIMITS.shards, 'shards', file);
  atMost(totalBytes, LIMITS.weightBytes, 'bytes of weights', file);
  if (tensors.size !== declared.length) throw fileError(file, 'two tensors have the same name');
  return { groups, tensors, totalBytes };
}

/**
 * Reads all tensors of a manifest, by their names there.
 * @throws CheckpointError for shards that are missing, truncated or too long, or that do not fit into memory.
 */
export async function readTensors(folder: ModelFolder, manifest: Manifest): Promise<Map<string, HostTensor>> {
  folder.checkMemory(MANIFEST_FILE, manifest.totalBytes);
  const tensors = new Map<string, HostTensor>();
  let loadedBytes = 0;
  for (const { shards, tensors: declared } of manifest.groups) {
    const buffer = await readShards(folder, shards, byteLength(declared), (file, bytes) => {
      loadedBytes += bytes;
      folder.progress({ file, loadedBytes, totalBytes: manifest.totalBytes });
    });
    let offset = 0;
    for (const { name, dtype, shape } of declared) {
      const Values = dtype === 'int32' ? Int32Array : Float32Array;
      const data = new Values(buffer, offset, sizeOf(shape));
      tensors.set(name, { dtype, shape, data });
      offset += data.byteLength;
    }
  }
  return tensors;
}

/** Returns the bytes of a group's shards, concatenated. */
async function readShards(
  folder: ModelFolder,
  shards: readonly string[],
  expectedBytes: number,
  onRead: (file: string, bytes: number) => void,
): Promise<ArrayBuffer> {
  const whole = new Uint8Array(expectedBytes);
  const wrong = (got: number, file: string, what: string): CheckpointError =>
    fileError(
      file,
      `expected ${expectedBytes} bytes in ${shards.length} shards, got ${got}: ${what}; download the model again`,
    );
  let bytes = 0;
  for (const shard of shards) {
    const part = await folder.bytes(shard);
    if (bytes + part.length > expectedBytes) {
      throw wrong(bytes + part.length, folder.pathOf(shard), 'too many');
    }
    whole.set(part, bytes);
    bytes += part.length;
    onRead(shard, part.length);
  }
  if (bytes === expectedBytes) return whole.buffer;
  throw wrong(bytes, folder.pathOf(MANIFEST_FILE), 'a shard is truncated or missing');
}

function parseGroup(group: unknown, file: string): Group {
  return {
    shards: listField(group, 'paths', file).map((path) => shardName(path, file)),
    tensors: listField(group, 'weights', file).map((tensor) => parseTensor(tensor, file)),
  };
}

/** Returns a plain file name, so that a manifest cannot point outside its folder. */
function shardName(path: unknown, file: string): string {
  if (typeof path === 'string' && /^[\w-][\w.-]{0,199}$/.test(path)) return path;
  throw fileError(file, `a shard must be a file beside it, got ${shown(path)}`);
}

function parseTensor(declared: unknown, file: string): DeclaredTensor {
  const name = field(declared, 'name');
  if (typeof name !== 'string') {
    throw fileError(file, `a tensor must have a name, got ${shown(name)}`);
  }
  const dtype = field(declared, 'dtype');
  if (field(declared, 'quantization') !== undefined || (dtype !== 'float32' && dtype !== 'int32')) {
    throw new CheckpointError(
      `${file}: tensor '${name}' must be plain float32 or int32, got ${shown(dtype)}; quantized models are not read`,
      name,
    );
  }
  return { name, dtype, shape: parseShape(field(declared, 'shape'), name, file) };
}

function parseShape(shape: unknown, name: string, file: string): number[] {
  const dims = Array.isArray(shape) ? shape : undefined;
  if (dims && dims.length <= LIMITS.rank && dims.every(isDimension) && sizeOf(dims) <= LIMITS.weightBytes) return dims;
  throw new CheckpointError(
    `${file}: tensor '${name}' must have up to ${LIMITS.rank} dimensions and ${LIMITS.weightBytes} values, got ${shown(shape)}`,
    name,
  );
}

function isDimension(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function byteLength(tensors: readonly DeclaredTensor[]): number {
  return tensors.reduce((bytes, { shape }) => bytes + BYTES_PER_VALUE * sizeOf(shape), 0);
}

function atMost(count: number, limit: number, what: string, file: string): void {
  if (count > limit) throw fileError(file, `expected at most ${limit} ${what}, got ${count}`);
}
