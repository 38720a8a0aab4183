import { assertFreeName, insertAdapter } from '../adapter/adapters.js';
import { adapterNamed, peftModel, type Adapter, type PeftModel } from '../adapter/peft-model.js';
import type { PeftMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { diskStorage, type Storage } from '../storage.js';
import {
  configFields,
  type ConfigFields,
  decodeConfig,
  encodeConfig,
  methodFor,
  storedLabels,
  stringList,
} from './adapter-config.js';
import { modelCard } from './model-card.js';
import { restoreAdapter, type StoredAdapter } from './restore.js';
import { savedModuleTensors, splitSaved } from './saved-modules.js';
import { decodeTensors, encodeTensors, withoutPrefix, withPrefix } from './weights-file.js';
import { writeFolder } from './write-folder.js';

/** The file of an adapter folder that says what it is, as PEFT calls it. */
export const ADAPTER_CONFIG = 'adapter_config.json';
/** The file of an adapter folder with its tensors, as PEFT calls it. */
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors';

/** The adapter whose folder is the one named; the others have folders of their names inside it. */
const DEFAULT_ADAPTER = 'default';

/** Where adapters are written to, which, and how small. */
export interface SaveOptions {
  /** Default: the disk. */
  readonly storage?: Storage;
  /** Whether ranks that have vanished are left out, so that the adapter is as small as it can be. Default true. */
  readonly pruned?: boolean;
  /** Names of the adapters to write. Default: all. */
  readonly selectedAdapters?: readonly string[];
}

/**
 * Writes adapters in PEFT's format: adapter_config.json, adapter_model.safetensors and a model card; that of 'default' into
 * the folder itself, every other one into a folder of its name inside it. A save that is cut short leaves a folder that says so
 * when it is opened, never files of two saves.
 * @throws ConfigError for an unknown name, before anything is written.
 * @throws CheckpointError when the folder cannot be written, or a value is not finite.
 */
export async function savePretrained(
  peft: PeftModel,
  folder: string,
  { storage = diskStorage(), pruned = true, selectedAdapters = [...peft.adapters.keys()] }: SaveOptions = {},
): Promise<void> {
  const selected = selectedAdapters.map((name) => adapterNamed(peft, name));
  for (const adapter of selected) {
    const own = adapter.name === DEFAULT_ADAPTER ? folder : `${folder}/${adapter.name}`;
    await writeAdapter(peft.model, adapter, own, { storage, pruned });
  }
}

async function writeAdapter(
  model: Model,
  adapter: Adapter,
  folder: string,
  { storage, pruned }: Required<Pick<SaveOptions, 'storage' | 'pruned'>>,
): Promise<void> {
  const file = adapter.method.toFile(adapter, { pruned });
  const fields = configFields(model, adapter, file.config);
  const tensors = withPrefix({ ...file.tensors, ...savedModuleTensors(adapter) });
  const card = modelCard(model, adapter, String(fields.peft_type));
  await writeFolder(storage, {
    config: { path: `${folder}/${ADAPTER_CONFIG}`, bytes: encodeConfig(fields) },
    others: [
      { path: `${folder}/${ADAPTER_WEIGHTS}`, bytes: encodeTensors(tensors) },
      { path: `${folder}/README.md`, bytes: new TextEncoder().encode(card) },
    ],
  });
}

/** Where an adapter is read from and by which methods. */
export interface LoadOptions {
  /** The methods that the adapter may have been made with. */
  readonly methods: readonly PeftMethod[];
  readonly storage?: Storage;
  /** Default 'default'. */
  readonly adapterName?: string;
}

/**
 * Returns a new model with the adapter of a folder, written here or by PEFT, which is the one that acts; `model` stays as it is.
 * @param options `seed`, default 0: of a head that the folder does not hold, and of the dropout and noise of further training
 * @throws CheckpointError naming the file, tensor or field at fault.
 */
export async function loadPretrained(
  model: Model,
  folder: string,
  { seed = 0, ...options }: LoadOptions & { readonly seed?: number },
): Promise<PeftModel> {
  return peftModel(model, seed, restoreAdapter(model, seed, await readAdapter(model, folder, options)));
}

/**
 * Changes `peft` in place: the adapter of a folder stands beside those that are there. It does not act until `setAdapter` says so.
 * @throws ConfigError when the name is taken.
 * @throws CheckpointError naming the file, tensor or field at fault; nothing has changed then.
 */
export async function loadAdapter(
  peft: PeftModel,
  folder: string,
  options: LoadOptions & Required<Pick<LoadOptions, 'adapterName'>>,
): Promise<void> {
  assertFreeName(peft, options.adapterName);
  const stored = await readAdapter(peft.model, folder, options);
  insertAdapter(peft, restoreAdapter(peft.model, peft.seed, stored));
}

/**
 * Returns the fields of a folder's adapter_config.json, in PEFT's names.
 * @throws CheckpointError when it is missing, too large, no JSON or nested too deeply, says no `peft_type`, or a save was cut short.
 */
export async function readAdapterConfig(folder: string, storage: Storage = diskStorage()): Promise<ConfigFields> {
  const path = `${folder}/${ADAPTER_CONFIG}`;
  return decodeConfig(await storage.read(path), path);
}

/** Reads an adapter folder. @throws CheckpointError naming the file or field at fault. */
export async function readAdapter(
  model: Model,
  folder: string,
  { methods, storage = diskStorage(), adapterName = DEFAULT_ADAPTER }: LoadOptions,
): Promise<StoredAdapter> {
  const source = `${folder}/${ADAPTER_WEIGHTS}`;
  const config = await readAdapterConfig(folder, storage);
  const method = methodFor(config, methods, folder);
  const tensors = withoutPrefix(decodeTensors(await storage.read(source), source));
  const { own, saved, paths } = splitSaved(tensors, model, stringList(config.modules_to_save));
  const labels = storedLabels(config, model);
  return { name: adapterName, method, file: { config, tensors: own }, saved, savedPaths: paths, labels, source };
}
