import { CheckpointError, UnsupportedError } from '@peftjs/core/method';
import type { ModelFolder } from '@peftjs/models/architectures';
import { Message } from './message.js';
import { readModel, type ModelFile } from './model.js';
import type { Piece } from './tensor.js';

/** A model file and the files beside it that hold its large tensors. */
export interface OpenedModel {
  readonly model: ModelFile;
  /** The bytes of the model file. */
  readonly bytes: Uint8Array;
  /** The files beside it, by the name that the model has for them. */
  readonly beside: ReadonlyMap<string, Uint8Array>;
  /** The bytes of all of these files. */
  readonly byteLength: number;
}

/**
 * Reads a model file and the files beside it.
 * @throws CheckpointError for a broken file, one that is too large, and data outside of its folder.
 * @throws UnsupportedError for an opset or a kind of constant that is not read.
 */
export async function openModel(folder: ModelFolder, file: string): Promise<OpenedModel> {
  const bytes = await whole(folder, file);
  const path = folder.pathOf(file);
  const { proto, names } = inFile(path, () => {
    const proto = new Message(bytes);
    return { proto, names: namesBeside(proto) };
  });
  const place = file.slice(0, file.lastIndexOf('/') + 1);
  const beside = new Map<string, Uint8Array>();
  let byteLength = bytes.byteLength;
  for (const name of names) {
    const read = await whole(folder, `${place}${name}`, byteLength);
    beside.set(name, read);
    byteLength += read.byteLength;
  }
  const external = ({ file: name, offset, length }: Piece): Uint8Array => {
    const all = beside.get(name) ?? new Uint8Array();
    const end = length === undefined ? all.byteLength : offset + length;
    if (Number.isSafeInteger(offset) && offset >= 0 && end >= offset && end <= all.byteLength)
      return all.subarray(offset, end);
    throw new CheckpointError(`bytes ${offset} to ${end} are outside of '${name}', which has ${all.byteLength}`, name);
  };
  return { model: inFile(path, () => readModel(proto, external)), bytes, beside, byteLength };
}

/** Names the file in errors about what it holds. */
export function inFile<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const Known = [CheckpointError, UnsupportedError].find((type) => error instanceof type);
    if (!Known) throw error;
    throw new Known(`${path}: ${(error as CheckpointError).message}`, (error as CheckpointError).path ?? path, error);
  }
}

/** The largest file: a message of Protocol Buffers has at most 2 GB, and files beside it are read whole. */
const MAX_BYTES = 2 ** 32;

/** Reads a file. @param held the bytes of the model that are in memory already */
async function whole(folder: ModelFolder, file: string, held = 0): Promise<Uint8Array> {
  const source = await folder.source(file);
  try {
    if (source.size > MAX_BYTES)
      throw new CheckpointError(`${folder.pathOf(file)} has ${source.size} bytes, at most ${MAX_BYTES} are read`, file);
    folder.checkMemory(file, held + source.size);
    return await source.read(0, source.size);
  } finally {
    await source.close?.();
  }
}

/** The most files beside a model. */
const MAX_FILES = 1000;

/** No name, an absolute path, a drive or scheme, a separator of Windows, or a folder above. */
const OUTSIDE = /^$|^\/|^[a-z][\w+.-]*:|\\|(?:^|\/)\.\.(?:\/|$)/i;

/** Returns the names of the files that hold a model's tensors. @throws CheckpointError for one outside its folder. */
function namesBeside(proto: Message): Set<string> {
  const names = new Set<string>();
  for (const tensor of proto.message(7).messages(5)) {
    for (const entry of tensor.messages(13)) if (entry.text(1) === 'location') names.add(entry.text(2));
  }
  const odd = [...names].find((name) => name.includes('\0') || OUTSIDE.test(name));
  if (odd !== undefined)
    throw new CheckpointError(`tensors in '${odd}': expected a file in the folder of the model`, odd);
  if (names.size > MAX_FILES)
    throw new CheckpointError(`tensors are in ${names.size} files, at most ${MAX_FILES} are read`);
  return names;
}
