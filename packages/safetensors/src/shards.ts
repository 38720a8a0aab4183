import { inFile, quote, reason, SafetensorsError } from './errors.js';
import { bareRecord, isObject, MAX_HEADER_BYTES, parseObject } from './header.js';
import { readExactly, type ByteSource } from './file.js';
import { fileSource, openSource, type OpenSource, type SafetensorsFile } from './open.js';

const MAX_SHARDS = 1024;

/** Matches a file next to the index: no folder, drive or URL syntax that could lead outside. */
const SHARD_NAME = /^[\w-][\w.+-]{0,240}\.safetensors$/;
const LAST_SEGMENT = /(?<![^/\\])[^/\\]*$/;

/**
 * Opens a sharded model by its index (`model.safetensors.index.json`), with the shards next to it. Reads all headers
 * and checks that every tensor of the index is in its shard.
 * @param open Opens the index and the shards. A shard's path is the index's path with another last segment. Default:
 * the disk.
 * @throws SafetensorsError naming the file, and the invalid tensor or key.
 */
export async function openSharded(indexPath: string, open: OpenSource = fileSource): Promise<SafetensorsFile> {
  const index = await readIndex(indexPath, open);
  const files: SafetensorsFile[] = [];
  const fileOf = new Map<string, SafetensorsFile>();
  try {
    for (const [shard, names] of index) {
      const path = indexPath.replace(LAST_SEGMENT, shard);
      const file = await openSource(await opened(path, open), path);
      files.push(file);
      for (const name of names) {
        file.spec(name);
        fileOf.set(name, file);
      }
    }
    return joined(indexPath, files, fileOf);
  } catch (error) {
    await closeAll(files);
    throw inFile(indexPath, error);
  }
}

/** The names of the tensors by shard. */
type ShardIndex = ReadonlyMap<string, readonly string[]>;

async function readIndex(path: string, open: OpenSource): Promise<ShardIndex> {
  const source = await opened(path, open);
  try {
    if (source.size > MAX_HEADER_BYTES) {
      throw new SafetensorsError(`an index of ${source.size} bytes, at most ${MAX_HEADER_BYTES} are read`);
    }
    return parseIndex(await readExactly(source, 0, source.size, SafetensorsError));
  } catch (error) {
    throw inFile(path, error);
  } finally {
    await source.close?.();
  }
}

function parseIndex(json: Uint8Array): ShardIndex {
  const { weight_map: shards } = parseObject(json, 'index');
  if (!isObject(shards)) {
    throw new SafetensorsError("index: expected an object 'weight_map' of tensor names and their files", 'weight_map');
  }
  const index = new Map<string, string[]>();
  for (const [name, file] of Object.entries(shards)) {
    const shard = checkedShard(file, name);
    const names = index.get(shard) ?? [];
    names.push(name);
    index.set(shard, names);
  }
  if (index.size <= MAX_SHARDS) return index;
  throw new SafetensorsError(`index: expected at most ${MAX_SHARDS} files, got ${index.size}`, 'weight_map');
}

function checkedShard(shard: unknown, tensor: string): string {
  if (typeof shard === 'string' && SHARD_NAME.test(shard)) return shard;
  throw new SafetensorsError(
    `index: tensor ${quote(tensor)} is listed in ${quote(String(shard))}, expected a .safetensors file next to the index`,
    tensor,
  );
}

async function opened(path: string, open: OpenSource): Promise<ByteSource> {
  try {
    return await open(path);
  } catch (cause) {
    if (cause instanceof SafetensorsError) throw cause;
    throw new SafetensorsError(`cannot open ${path}: ${reason(cause)}`, path, cause);
  }
}

function joined(
  path: string,
  files: readonly SafetensorsFile[],
  fileOf: ReadonlyMap<string, SafetensorsFile>,
): SafetensorsFile {
  const home = (name: string): SafetensorsFile => {
    const file = fileOf.get(name);
    if (file) return file;
    throw new SafetensorsError(`${path}: there is no tensor ${quote(name)} among ${fileOf.size}`, name);
  };
  const metadata = bareRecord();
  for (const file of files) Object.assign(metadata, file.metadata);
  return {
    names: [...fileOf.keys()],
    metadata,
    spec: (name) => home(name).spec(name),
    read: async (name) => home(name).read(name),
    async *pieces(name) {
      yield* home(name).pieces(name);
    },
    close: () => closeAll(files),
  };
}

async function closeAll(files: readonly SafetensorsFile[]): Promise<void> {
  await Promise.all(files.map((file) => file.close()));
}
