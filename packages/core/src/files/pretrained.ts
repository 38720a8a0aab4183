import { assertFreeName, insertAdapter } from '../adapter/adapters.js';
import {
  aPeftModel,
  adapterNamed,
  allLayers,
  fitLayers,
  initialValues,
  peftModel,
  tensorsOf,
  type Adapter,
  type PeftModel,
} from '../adapter/peft-model.js';
import type { AdapterFile, PeftMethod, TargetConfig } from '../contracts/method.js';
import { allSites, type Model } from '../contracts/model.js';
import { diskStorage } from '../disk/disk-storage.js';
import { aReadStorage, aStorage, writeFolders, type FolderFiles, type Storage, type StoredFile } from '../storage.js';
import {
  configFields,
  decodeConfig,
  encodeConfig,
  methodFor,
  storedMeaning,
  stringList,
  type ConfigFields,
} from './adapter-config.js';
import {
  decodeTensors,
  encodeTensors,
  savedModuleTensors,
  splitSaved,
  withoutBaseWeights,
  withoutPrefix,
  withoutUnused,
  withPrefix,
} from './adapter-tensors.js';
import { createAdapter } from '../adapter/attach.js';
import { assertKnownVariant, readsLora } from './lora-file.js';
import { isInHead, isPretrained, outputMeaning, type OutputMeaning } from '../head.js';
import { TOKEN_ROWS } from '../adapter/token-rows.js';
import * as v from 'valibot';
import { assertArgument, closed, finite, parseOptions, warnOnce } from '../config.js';
import { aMethodList, aModel, anInteger, aText, aTextList } from '../kinds.js';
import { CheckpointError, UnsupportedError } from '../errors.js';
import { tensorsAt, type HostTensors } from '../tensors.js';
import { printedModel } from '../printed.js';
import { adapterCard, isEdited, type CardFacts } from './adapter-card.js';

/** PEFT's name of an adapter folder's configuration file. */
export const ADAPTER_CONFIG = 'adapter_config.json';
/** PEFT's name of an adapter folder's tensor file. */
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors';

/** The adapter that is saved in the given folder itself; the others get subfolders of their names. */
const DEFAULT_ADAPTER = 'default';

/** Options of `savePretrained`. */
export interface SaveOptions {
  /** Where to write. Default: the disk. */
  readonly storage?: Storage;
  /** Whether to leave out pruned ranks, so that the file is as small as possible. Default true. */
  readonly pruned?: boolean;
  /** Names of the adapters to write. Default: all. */
  readonly selectedAdapters?: readonly string[];
  /** What the model cards say besides what the model knows, e.g. rows, seed and metrics. Default: nothing. */
  readonly card?: CardFacts;
}

const saveEntries = {
  storage: v.optional(aStorage),
  pruned: v.optional(v.boolean(), true),
  selectedAdapters: v.optional(aTextList),
  card: v.optional(
    closed({
      data: v.optional(v.string()),
      training: v.optional(v.record(v.string(), v.union([v.string(), v.number()]))),
      metrics: v.optional(v.record(v.string(), finite)),
      heldOutRows: v.optional(v.number()),
      license: v.optional(v.string()),
    }),
  ),
} satisfies Record<keyof SaveOptions, unknown>;

/**
 * Writes adapters in PEFT's format: adapter_config.json, adapter_model.safetensors and a model card; for embeddings also
 * how texts are pooled, as sentence-transformers reads it. A model card that someone has edited is kept. The adapter 'default' goes into the folder itself, every other
 * one into a subfolder of its name. A save that fails or is killed leaves the old files of a folder or the new ones, and
 * several saves at once leave those of one; in a storage without `writeFolders`, opening a folder whose save was
 * interrupted reports that.
 * @throws ConfigError for an unknown name, before anything is written.
 * @throws CheckpointError when the folder cannot be written, or a value is not finite.
 */
export async function savePretrained(peft: PeftModel, folder: string, options: SaveOptions = {}): Promise<void> {
  assertArgument('peft', peft, aPeftModel);
  assertArgument('folder', folder, aText);
  const parsed = parseOptions('savePretrained', saveEntries, options);
  const { storage = diskStorage(), pruned, selectedAdapters = [...peft.adapters.keys()], card = {} } = parsed;
  const folders = selectedAdapters.map((name) => {
    const adapter = adapterNamed(peft, name);
    const own = name === DEFAULT_ADAPTER ? folder : `${folder}/${name}`;
    return adapterFiles(peft.model, adapter, own, { pruned, card });
  });
  const kept = await Promise.all(folders.map((files) => withoutEdited(files, storage)));
  await writeFolders(storage, kept);
}

/** The name of a model card. */
const CARD = 'README.md';

/** Leaves out a model card where the folder has one that was edited. */
async function withoutEdited({ config, others }: FolderFiles, storage: Storage): Promise<FolderFiles> {
  const edited = async ({ path }: StoredFile): Promise<boolean> =>
    path.endsWith(`/${CARD}`) &&
    (await storage.exists(path)) &&
    isEdited(new TextDecoder().decode(await storage.read(path)));
  const areKept = await Promise.all(others.map(edited));
  return { config, others: others.filter((_, index) => !areKept[index]) };
}

function adapterFiles(
  model: Model,
  adapter: Adapter,
  folder: string,
  { pruned, card: facts }: Required<Pick<SaveOptions, 'pruned' | 'card'>>,
): FolderFiles {
  const file = adapter.method.toFile(adapter, { pruned });
  const fields = configFields(model, adapter, file.config);
  const tensors = withPrefix({ ...file.tensors, ...savedModuleTensors(model, adapter) });
  const card = adapterCard({ model, adapter, peftType: String(fields.peft_type), folder }, facts);
  const beside = Array.from(model.besideAdapters ?? [], ([name, bytes]) => ({ path: `${folder}/${name}`, bytes }));
  return {
    config: { path: `${folder}/${ADAPTER_CONFIG}`, bytes: encodeConfig(fields) },
    others: [
      { path: `${folder}/${ADAPTER_WEIGHTS}`, bytes: encodeTensors(tensors, adapter.method.name) },
      { path: `${folder}/${CARD}`, bytes: new TextEncoder().encode(card) },
      ...beside,
    ],
  };
}

/** Options of `loadPretrained` and `loadAdapter`. */
export interface LoadOptions {
  /** The methods that the adapter may have been made with. */
  readonly methods: readonly PeftMethod[];
  /** Where to read. Default: the disk. */
  readonly storage?: Storage;
  /** The name to give the adapter. Default 'default'. */
  readonly adapterName?: string;
}

const loadEntries = {
  methods: aMethodList,
  storage: v.optional(aReadStorage),
  adapterName: v.optional(aText),
} satisfies Record<keyof LoadOptions, unknown>;

/**
 * Returns a new model with the adapter in a folder, written by peftjs or PEFT, as its active adapter. `model` is not
 * changed.
 * @param options `seed` (default 0) seeds a head that the folder does not hold, and the dropout of further training
 * @throws CheckpointError naming the file, tensor or field at fault.
 * @throws UnsupportedError for a pickle, or an adapter that needs what its method does not support.
 */
export async function loadPretrained(
  model: Model,
  folder: string,
  options: LoadOptions & { readonly seed?: number },
): Promise<PeftModel> {
  assertArgument('model', model, aModel);
  const { seed } = parseOptions('loadPretrained', { ...loadEntries, seed: v.optional(anInteger, 0) }, options);
  const adapter = restoreAdapter(model, seed, await readAdapter(model, folder, options));
  return printedModel(peftModel(model, seed, adapter));
}

/**
 * Adds the adapter in a folder to `peft`, in place. It stays inactive until `setAdapter` activates it.
 * @throws ConfigError when the name is in use.
 * @throws the errors of `loadPretrained`; nothing has changed then.
 */
export async function loadAdapter(
  peft: PeftModel,
  folder: string,
  options: LoadOptions & Required<Pick<LoadOptions, 'adapterName'>>,
): Promise<void> {
  assertArgument('peft', peft, aPeftModel);
  assertLoadOptions('loadAdapter', options);
  assertFreeName(peft, options.adapterName);
  const stored = await readAdapter(peft.model, folder, options);
  insertAdapter(peft, restoreAdapter(peft.model, peft.seed, stored));
}

/** Checks the options of functions that need a name for what they load. @throws ConfigError naming the field. */
export function assertLoadOptions(owner: string, options: LoadOptions): void {
  parseOptions(owner, { ...loadEntries, adapterName: aText }, options);
}

/**
 * Returns the fields of a folder's adapter_config.json, in PEFT's names.
 * @throws CheckpointError when it is missing, too large, not JSON, nested too deeply, without a `peft_type`, or from an
 * interrupted save.
 */
export async function readAdapterConfig(folder: string, storage: Storage = diskStorage()): Promise<ConfigFields> {
  const path = `${folder}/${ADAPTER_CONFIG}`;
  return decodeConfig(await storage.read(path), path);
}

/** Reads an adapter folder. @throws the errors of `loadPretrained`. */
export async function readAdapter(
  model: Model,
  folder: string,
  { methods, storage = diskStorage(), adapterName = DEFAULT_ADAPTER }: LoadOptions,
): Promise<StoredAdapter> {
  assertArgument('folder', folder, aText);
  const source = `${folder}/${ADAPTER_WEIGHTS}`;
  const { config, weights } = await readFiles(folder, storage);
  const method = methodFor(config, methods, folder);
  const decoded = withoutPrefix(decodeTensors(weights, source));
  const tensors = withoutUnused(decoded, model, source);
  const names = stringList(config.modules_to_save);
  const { own, saved, paths } = splitSaved(tensors, model, names, config.ensure_weight_tying === true);
  const file = { config, tensors: withoutBaseWeights(own, model, stringList(config.target_modules)) };
  return { name: adapterName, method, file, saved, savedPaths: paths, ...storedMeaning(config, model), source };
}

/** Reads a folder's files, again if a save has replaced them meanwhile. */
async function readFiles(
  folder: string,
  storage: Storage,
): Promise<{ readonly config: ConfigFields; readonly weights: Uint8Array }> {
  const path = `${folder}/${ADAPTER_CONFIG}`;
  const bytes = await storage.read(path);
  const decoded = async () => ({ config: decodeConfig(bytes, path), weights: await readWeights(folder, storage) });
  const [files] = await Promise.allSettled([decoded()]);
  const now = await storage.read(path);
  if (now.length !== bytes.length || now.some((byte, at) => byte !== bytes[at])) return readFiles(folder, storage);
  if (files.status === 'rejected') throw files.reason;
  return files.value;
}

/** Reads the bytes of a folder's tensors. @throws UnsupportedError for the pickle format of older versions of PEFT. */
async function readWeights(folder: string, storage: Storage): Promise<Uint8Array> {
  try {
    return await storage.read(`${folder}/${ADAPTER_WEIGHTS}`);
  } catch (error) {
    const pickle = `${folder}/adapter_model.bin`;
    if (!(await storage.exists(pickle).catch(() => false))) throw error;
    throw new UnsupportedError(
      `${pickle} is a pickle, which can run code and is not read: open the adapter in PEFT and save_pretrained it, which writes ${ADAPTER_WEIGHTS}`,
      pickle,
      error,
    );
  }
}

/** An adapter read from a file, ready to be restored. */
export interface StoredAdapter extends OutputMeaning, Pick<Adapter, 'name' | 'method'> {
  /** The method's part, without the modules trained in full. */
  readonly file: AdapterFile;
  /**
   * The modules trained in full, `<path>.weight` and `<path>.bias`, in the model's orientation; and the rows of trained
   * tokens, `<path>.trainableTokensDelta`.
   */
  readonly saved: HostTensors;
  /** Paths of these modules. */
  readonly savedPaths: readonly string[];
  /** The origin of the adapter, for messages. */
  readonly source: string;
}

/**
 * Makes the adapter that a file describes. Without a head of its own it gets the model's.
 * @throws CheckpointError naming the tensor or field at fault.
 */
export function restoreAdapter(model: Model, seed: number, stored: StoredAdapter): Adapter {
  const { method, file, saved, source } = stored;
  if (readsLora(method)) assertKnownVariant(file.config); // first, because some variants have other modules
  const targetModules = modulesOf(file, model, source);
  const read = method.fromFile({ ...file, sites: allSites(model) });
  const modulesToSave = stored.savedPaths.filter(
    (path) => !isInHead(model, path) && !(`${path}.${TOKEN_ROWS}` in saved),
  );
  const isNamesake = (path: string): boolean =>
    !targetModules.includes(path) && targetModules.some((name) => path.endsWith(`.${name}`));
  const excludeModules = allSites(model).flatMap(({ path }) => (isNamesake(path) ? [path] : []));
  const config = method.parseConfig({
    ...(targetModules.length > 0 && { targetModules }),
    ...(excludeModules.length > 0 && { excludeModules }),
    ...(modulesToSave.length > 0 && { modulesToSave }),
    ...tokenOptions(stored),
    ...read.config,
  });
  const ofHead = adaptedHead(model, targetModules, source);
  const created = createAdapter(model, { method, config }, { seed, adapterName: stored.name }, ofHead);
  const unknown = targetModules.find((path) => !(path in created.layers));
  if (unknown !== undefined) {
    throw new UnsupportedError(`${source} adapts '${unknown}', which '${method.name}' does not adapt`, unknown);
  }
  const adapter = { ...created, ...outputMeaning(stored), layers: fitLayers(created, read.values) };
  const initial = initialHead(model, adapter, saved, source);
  const values = { ...initial, ...unwrittenBiases(adapter, stored), ...read.values, ...saved };
  return { ...adapter, values: checkedValues(adapter, values, source) };
}

/**
 * Returns the model's own biases for a file that says it trained biases and has none: PEFT before 0.21 left those of
 * adapted modules out (its issue 3306), and opens such files likewise.
 */
function unwrittenBiases({ layers }: Adapter, { file, source }: StoredAdapter): HostTensors {
  const { bias = 'none' } = file.config;
  const isBias = (key: string): boolean => key.endsWith('.bias');
  if (bias === 'none' || Object.keys(file.tensors).some(isBias)) return {};
  const biases = Object.entries(initialValues(layers)).filter(([key]) => isBias(key));
  if (biases.length > 0) {
    warnOnce(
      `${source}: trained biases (bias: '${String(bias)}') are missing, as in files of PEFT before 0.21: the model's own are used`,
    );
  }
  return Object.fromEntries(biases);
}

/**
 * Returns a file's settings for single tokens and tied tables, as options.
 * @throws UnsupportedError where the method has no such options.
 */
function tokenOptions({ file: { config }, method, source }: StoredAdapter): Partial<TargetConfig> {
  const { trainable_token_indices: tokens, ensure_weight_tying: isTied } = config;
  const options = {
    ...(tokens != null && { trainableTokenIndices: tokens as readonly number[] }),
    ...(isTied === true && { ensureWeightTying: true }),
  };
  const [option] = Object.keys(options);
  if (option === undefined || option in method.parseConfig({})) return options;
  const field = tokens != null ? 'trainable_token_indices' : 'ensure_weight_tying';
  throw new UnsupportedError(`${source}: '${method.name}' does not have '${field}', which this adapter uses`, field);
}

/**
 * Checks that the values are exactly the adapter's tensors. @throws CheckpointError for a missing, unknown or
 * mis-shaped one.
 */
export function checkedValues(adapter: Adapter, values: HostTensors, source: string): HostTensors {
  const expected = new Map(tensorsOf(allLayers(adapter)).map(({ key, spec }) => [key, spec]));
  const unknown = Object.keys(values).find((key) => !expected.has(key));
  if (unknown) throw new CheckpointError(`${source}: '${unknown}' belongs to no adapted module of this model`, unknown);
  const fitting: HostTensors = {};
  for (const [key, spec] of expected) {
    const { shape } = spec.initial;
    const value = values[key] ?? ('shared' in spec ? spec.initial : undefined);
    if (!value) throw new CheckpointError(`${source}: the tensor of '${key}' is missing`, key);
    if (value.shape.join() !== shape.join()) {
      throw new CheckpointError(
        `${source}: '${key}' has shape [${value.shape.join(', ')}], expected [${shape.join(', ')}]`,
        key,
      );
    }
    fitting[key] = value;
  }
  return fitting;
}

/**
 * Returns the paths of the modules that a file has tensors for. These are adapted, whatever `target_modules` and
 * `exclude_modules` say.
 * @throws CheckpointError when a tensor belongs to no module of the model.
 */
function modulesOf({ tensors, config }: AdapterFile, model: Model, source: string): string[] {
  const known = new Set(allSites(model).map(({ path }) => path));
  const found = new Set<string>();
  for (const key of Object.keys(tensors)) {
    if (!key.includes('.')) continue; // shared by all modules
    let path = key;
    while (path !== '' && !known.has(path)) path = path.slice(0, Math.max(0, path.lastIndexOf('.')));
    if (path === '' || isOfAnotherHead(key, path)) throw otherBase(key, model, config, source);
    found.add(path);
  }
  return [...found];
}

/** Returns whether a tensor belongs to a submodule of what is a single module here, e.g. 'classifier.dense.bias'. */
function isOfAnotherHead(key: string, path: string): boolean {
  return /^\.(dense|out_proj)\.(weight|bias)$/.test(key.slice(path.length));
}

function otherBase(key: string, { name }: Model, config: AdapterFile['config'], source: string): CheckpointError {
  const base = config.base_model_name_or_path;
  const made = typeof base === 'string' && base !== '' ? ` was made for '${base}', and` : '';
  return new CheckpointError(
    `${source}${made} holds '${key}', which belongs to no module of '${name}': load the model, with the task, that it was trained on`,
    key,
  );
}

/** Returns the tensors of the head that the adapter's file lacks. */
function initialHead(model: Model, { saved, values }: Adapter, stored: HostTensors, source: string): HostTensors {
  const missing = tensorsOf(saved).filter(({ key, layer }) => isInHead(model, layer.site.path) && !(key in stored));
  const paths = new Set(missing.map(({ layer }) => layer.site.path));
  const drawn = [...paths].filter((path) => !isPretrained(model, path));
  if (drawn.length > 0) {
    warnOnce(`${source} holds no '${drawn.join("', '")}' and the model has no trained one: its weights are random`);
  }
  return tensorsAt(values, ...missing.map(({ key }) => key));
}

/**
 * Returns the modules of the head that a file adapts. PEFT can adapt all but the last one.
 * @throws CheckpointError for one without frozen weights in the model.
 */
function adaptedHead(model: Model, targetModules: readonly string[], source: string): string[] {
  const paths = targetModules.filter((path) => isInHead(model, path));
  const untrained = paths.find((path) => !isPretrained(model, path));
  if (untrained === undefined) return paths;
  throw new CheckpointError(
    `${source} adapts '${untrained}', whose weights '${model.name}' came without: load the checkpoint that the adapter was trained on`,
    untrained,
  );
}
