/** Models in a GGUF file of llama.cpp, presented as the folder of transformers that it was made from. */
import { CheckpointError } from '@peftjs/core/method';
import { GgufError, openGguf, type GgufFile, type GgufTensor } from '@peftjs/gguf';
import type { CheckpointFormat, FileFormat, GgufContent } from '../checkpoint.js';
import type { ModelFolder } from '../folder.js';
import { encodeJson } from '../json.js';
import { readTransformers, transformersFiles, withBuiltIn } from '../transformers/checkpoint.js';
import type { ModelType } from '../transformers/config.js';
import { configOf } from './config.js';
import { ROPE_FACTORS } from './rope.js';
import { weightsOf } from './tensors.js';
import { tokenizerFilesOf } from './tokenizer.js';

/** The ending of the files' names. */
export const GGUF_ENDING = '.gguf';

/** GGUF files, of these networks besides the built-in ones. */
export function ggufFiles(modelTypes: readonly ModelType[] = []): FileFormat {
  return {
    ending: GGUF_ENDING,
    locate(path) {
      const folder = path.slice(0, Math.max(0, path.lastIndexOf('/')));
      const name = path.slice(folder === '' ? 0 : folder.length + 1);
      return { folder, format: ggufFormat(name, withBuiltIn(modelTypes)) };
    },
  };
}

/** Returns the format of the file with this name in a folder. */
function ggufFormat(marker: string, modelTypes: readonly ModelType[]): CheckpointFormat {
  return {
    name: 'llama.cpp',
    marker,
    read: (folder, task, dtype) =>
      withGguf(folder, marker, async (file) =>
        readTransformers(await presented(folder, marker, file), modelTypes, task, dtype),
      ),
    files: (folder) =>
      withGguf(folder, marker, async (file) => ({
        ...(await transformersFiles(await presented(folder, marker, file), modelTypes)),
        gguf: await contentOf(file),
      })),
  };
}

/** What the metadata say about how one file holds its weights. */
const OF_WEIGHTS = /^(?:quantize\.|split\.|general\.alignment$)/;

async function contentOf(file: GgufFile): Promise<GgufContent> {
  const besides = new Map<string, GgufTensor>();
  for (const name of ROPE_FACTORS) if (file.names.includes(name)) besides.set(name, await file.read(name));
  return { metadata: new Map([...file.metadata].filter(([key]) => !OF_WEIGHTS.test(key))), besides };
}

/** Opens a file of a folder while `use` runs. @throws CheckpointError naming the file. */
async function withGguf<T>(folder: ModelFolder, name: string, use: (file: GgufFile) => Promise<T>): Promise<T> {
  const path = folder.pathOf(name);
  try {
    const file = await openGguf(await folder.source(name));
    try {
      return await use(file);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!(error instanceof GgufError)) throw error;
    throw new CheckpointError(`${path}: ${error.message}`, error.path ?? path, error);
  }
}

/** Returns a folder of transformers with the contents of the file, whose path is in all messages. */
async function presented(folder: ModelFolder, name: string, file: GgufFile): Promise<ModelFolder> {
  const path = folder.pathOf(name);
  const files = new Map<string, unknown>([
    ['config.json', await configOf(file, path)],
    ...Object.entries(tokenizerFilesOf(file, path)),
  ]);
  const missing = (wanted: string): CheckpointError => new CheckpointError(`${path}: there is no ${wanted}`, path);
  return {
    ...folder,
    isFromCache: false, // the file has all of it
    pathOf: () => path,
    weights: { name, open: () => Promise.resolve(weightsOf(file, path)) },
    exists: (wanted) => Promise.resolve(files.has(wanted)),
    json: (wanted) => (files.has(wanted) ? Promise.resolve(files.get(wanted)) : Promise.reject(missing(wanted))),
    bytes: (wanted) =>
      files.has(wanted) ? Promise.resolve(encodeJson(files.get(wanted))) : Promise.reject(missing(wanted)),
    source: (wanted) => Promise.reject(missing(wanted)),
  };
}
