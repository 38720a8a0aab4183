import { readSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { warnOnce } from '../config.js';
import { CheckpointError, UnsupportedError } from '../errors.js';
import { isInHead } from '../head.js';
import type { AdapterContents } from '../contracts/method.js';
import { allSites, type Model } from '../contracts/model.js';
import { frozenModule } from '../adapter/attach.js';
import { TOKEN_ROWS } from '../adapter/token-rows.js';
import { tensorKey, valuesOf, type Adapter } from '../adapter/peft-model.js';
import { roundedLike } from '../quantized.js';
import { floats, hostTensor, transposed, type HostTensor, type HostTensors } from '../tensors.js';
import { isModuleToSave } from '../adapter/targets.js';
import type { Site } from '../contracts/site.js';

/* adapter_model.safetensors, the tensors in an adapter's folder, including those of modules trained in full. */

/** PEFT's prefix of every module path, and of the names of tensors that belong to no module. */
const MODULE_PREFIX = 'base_model.model.';
const ADAPTER_PREFIX = 'base_model.';

/** The longest axis of a tensor without elements. */
const MAX_EMPTY_AXIS = 1 << 20;

/** Adds PEFT's prefixes to tensor names: module path and suffix, or a name without a dot. */
export function withPrefix(tensors: HostTensors): HostTensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [
      (name.includes('.') ? MODULE_PREFIX : ADAPTER_PREFIX) + name,
      tensor,
    ]),
  );
}

/**
 * PEFT's `bias: 'all'` writes modules trained in full twice more: the frozen original, and a copy with an adapter's
 * name.
 */
const FROZEN_TWIN = '.original_module.';
const TRAINED_COPY = '.modules_to_save.';

/** Removes PEFT's prefixes, those of old versions included: gives module path and suffix, or a name without a dot. */
export function withoutPrefix(tensors: HostTensors): HostTensors {
  const named = Object.fromEntries(
    Object.entries(tensors).map(([key, tensor]) => {
      const prefix = [MODULE_PREFIX, ADAPTER_PREFIX].find((each) => key.startsWith(each)) ?? '';
      return [key.slice(prefix.length), tensor];
    }),
  );
  return Object.fromEntries(
    Object.entries(named).flatMap(([name, tensor]) => {
      if (name.includes(FROZEN_TWIN) || withoutCopy(name).some((plain) => plain in named)) return [];
      return [[name.replace(TRAINED_COPY, '.'), tensor]];
    }),
  );
}

/**
 * Returns the names that a copy's tensor has without the copy, with and without an adapter's name; none for other
 * tensors.
 */
function withoutCopy(name: string): string[] {
  const [path, rest] = name.split(TRAINED_COPY);
  if (rest === undefined) return [];
  return [rest, rest.slice(rest.indexOf('.') + 1)].map((suffix) => `${path}.${suffix}`);
}

/** The key of the file's metadata under which the method that made the adapter is named. PEFT does not read it. */
export const ADAPTER_METHOD = 'peftjs_method';

/**
 * Encodes a method's float32 tensors as a safetensors file. @throws CheckpointError for a value that is not finite.
 */
export function encodeTensors(tensors: HostTensors, method: string): Uint8Array {
  const entries = Object.entries(tensors).map(([key, tensor]) => {
    const data = floats(tensor, key);
    assertFinite(key, data);
    return [key, { dtype: 'F32', shape: tensor.shape, data }] as const;
  });
  return writeSafetensors(new Map(entries), { format: 'pt', [ADAPTER_METHOD]: method });
}

/**
 * Reads the tensors of a safetensors file as float32. @throws CheckpointError when it is broken, or a value is not
 * finite.
 */
export function decodeTensors(bytes: Uint8Array, path: string): HostTensors {
  const entries = [...parsed(bytes, path)].map(([key, tensor]) => {
    assertSmallIfEmpty(key, tensor.shape, path);
    const data = toFloat32(tensor);
    assertFinite(key, data, `${path}: `);
    return [key, hostTensor(data, tensor.shape)] as const;
  });
  return Object.fromEntries(entries);
}

function assertFinite(key: string, data: Float32Array, where = ''): void {
  const at = data.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return;
  throw new CheckpointError(
    `${where}'${key}' holds ${data[at] as number}: the adapter is broken; train it again with a lower learning rate`,
    key,
  );
}

/** Rejects shapes like [10 ** 15, 0]: they take no byte in a file, but a loop over their rows would not end. */
function assertSmallIfEmpty(key: string, shape: readonly number[], path: string): void {
  const longest = Math.max(...shape);
  if (longest <= MAX_EMPTY_AXIS || !shape.includes(0)) return;
  throw new CheckpointError(
    `${path}: '${key}' has shape [${shape.join(', ')}]; a tensor without numbers may be ${MAX_EMPTY_AXIS} long at most`,
    key,
  );
}

function parsed(bytes: Uint8Array, path: string): ReturnType<typeof readSafetensors> {
  try {
    return readSafetensors(bytes);
  } catch (cause) {
    throw new CheckpointError(`${path}: ${cause instanceof Error ? cause.message : String(cause)}`, path, cause);
  }
}

/** The suffix, on disk, of the trained rows of a table. */
const TOKEN_SUFFIX = '.token_adapter.trainable_tokens_delta';

/**
 * Returns the tensors of an adapter's modules trained in full, in torch's orientation: `<path>.weight`, `<path>.bias`,
 * and the trained rows of tables. A table that stays tied to its model's head is written for both, as in PEFT.
 */
export function savedModuleTensors(
  { tied = [] }: Pick<Model, 'tied'>,
  { saved, values, config }: Pick<Adapter, 'saved' | 'config'> & Pick<AdapterContents, 'values'>,
): HostTensors {
  const tensors: HostTensors = {};
  for (const layer of Object.values(saved)) {
    for (const [name, value] of Object.entries(valuesOf(layer, values))) {
      const key = name === TOKEN_ROWS ? layer.site.path + TOKEN_SUFFIX : tensorKey(layer, name);
      tensors[key] = turned(layer.site, name, value);
    }
  }
  for (const { site, table } of config.ensureWeightTying ? tied : []) {
    const weight = tensors[`${table}.weight`]; // [words, width], the orientation of a linear module on disk
    if (weight) tensors[`${site.path}.weight`] = weight;
  }
  return tensors;
}

/** A file's tensors, by what they belong to. */
export interface SplitTensors {
  /** The method's own, in torch's orientation. */
  readonly own: HostTensors;
  /** Those of modules trained in full, in TensorFlow.js's orientation. */
  readonly saved: HostTensors;
  /** The paths of these modules. */
  readonly paths: readonly string[];
}

/**
 * Separates the tensors of modules trained in full (the head and those in `names`) from a file's other tensors.
 * @param isTied whether the file holds copies of tables for the heads tied to them, which are left out
 */
export function splitSaved(given: HostTensors, model: Model, names: readonly string[], isTied: boolean): SplitTensors {
  const copies = isTied ? (model.tied ?? []).map(({ site }) => `${site.path}.weight`) : [];
  const tensors = Object.fromEntries(Object.entries(given).filter(([key]) => !copies.includes(key)));
  const saved: HostTensors = {};
  const paths = new Set<string>();
  for (const site of allSites(model)) {
    const { path } = site;
    const rows = tensors[path + TOKEN_SUFFIX];
    if (rows) saved[`${path}.${TOKEN_ROWS}`] = rows;
    if (!isInHead(model, path) && !names.some((name) => isModuleToSave(path, name))) continue;
    for (const name of ['weight', 'bias']) {
      const tensor = tensors[`${path}.${name}`];
      if (!tensor) continue;
      saved[`${path}.${name}`] = turned(site, name, tensor);
      paths.add(path);
    }
  }
  const own = Object.fromEntries(
    Object.entries(tensors).filter(([key]) => !Object.hasOwn(saved, key) && !key.endsWith(TOKEN_SUFFIX)),
  );
  return { own, saved, paths: [...paths] };
}

/** Removes an adapter's tensors for modules that no output depends on, with a warning. */
export function withoutUnused(tensors: HostTensors, { name, unused = [] }: Model, source: string): HostTensors {
  const moduleOf = (key: string) => unused.find((path) => key.startsWith(`${path}.`));
  const dropped = new Set(Object.keys(tensors).flatMap((key) => moduleOf(key) ?? []));
  for (const path of dropped) {
    warnOnce(
      `${source} also adapts '${path}', which no output of '${name}' depends on: this part is skipped, also when the adapter is saved again or merged`,
    );
  }
  return Object.fromEntries(Object.entries(tensors).filter(([key]) => moduleOf(key) === undefined));
}

/**
 * Removes copies of frozen weights from a method's own tensors: PEFT writes those of adapted tables and language-model
 * heads, and with `save_embedding_layers` also of others, in the precision in which it held them.
 * @param targets the modules that the file's configuration names: a table's plain weight is not a copy there
 * @throws UnsupportedError for one that differs from the model's, e.g. because the vocabulary was resized.
 */
export function withoutBaseWeights(own: HostTensors, model: Model, targets: readonly string[]): HostTensors {
  const entries = Object.entries(own).filter(([key, tensor]) => {
    const site = allSites(model).find((each) => isBaseWeight(key, each, targets));
    if (!site) return true;
    const table = model.tied?.find((tied) => tied.site.path === site.path)?.table;
    const { weight } = frozenModule(model, table ?? site.path);
    const given = table === undefined ? turned(site, 'weight', tensor) : tensor; // a table is stored as it is held
    const isSame = weight.shape.join() === given.shape.join() && sameNumbers(weight, roundedLike(weight, given));
    if (isSame) return false;
    throw new UnsupportedError(
      `the adapter has '${key}', which differs from the weight of '${model.name}': load the model that it was trained on`,
      key,
    );
  });
  return Object.fromEntries(entries);
}

function isBaseWeight(key: string, { path, kind, role }: Site, targets: readonly string[]): boolean {
  if (key === path + BASE_WEIGHT) return true;
  return key === `${path}.weight` && (kind === 'embedding' || role === 'head') && !targets.includes(path);
}

/** Whether numbers are those of a model, or these rounded to the nearest bfloat16 or float16. */
function sameNumbers({ data }: HostTensor, { data: other }: HostTensor): boolean {
  return data.every((value, at) => Math.abs(value - (other[at] as number)) <= 2 ** -8 * Math.abs(value) + 2 ** -25);
}

/** The suffix, on disk, of an adapted module's frozen weight. */
const BASE_WEIGHT = '.base_layer.weight';

/**
 * Converts between torch's orientation and ours, in both directions. Only the weight of a linear module differs, except
 * for a Conv1D.
 */
function turned({ kind, fanInFanOut }: Site, name: string, tensor: HostTensor): HostTensor {
  return kind === 'linear' && !fanInFanOut && name === 'weight' && tensor.shape.length === 2
    ? transposed(tensor)
    : tensor;
}
