import { readSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { CheckpointError } from '../errors.js';
import type { AdapterFile, PeftMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { diskStorage, type Storage } from '../storage.js';
import { isNamed, type TargetConfig } from '../adapter/targets.js';
import { hostTensor, transposed, type HostTensor, type HostTensors } from '../tensors.js';
import { attach } from '../adapter/attach.js';
import { modelCard } from './model-card.js';
import { allLayers, tensorKey, valuesOf, type PeftModel } from '../adapter/peft-model.js';

/** The file of an adapter folder that says what it is, as PEFT calls it. */
export const ADAPTER_CONFIG = 'adapter_config.json';
/** The file of an adapter folder with its tensors, as PEFT calls it. */
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors';

/** What PEFT puts before every module path. */
const PREFIX = 'base_model.model.';
const MAX_CONFIG_BYTES = 4 << 20;

/** Where an adapter is written to and how small. */
export interface SaveOptions {
  /** Default: the disk. */
  readonly storage?: Storage;
  /** Whether ranks that have vanished are left out, so that the adapter is as small as it can be. Default true. */
  readonly pruned?: boolean;
}

/**
 * Writes an adapter folder in PEFT's format: adapter_config.json, adapter_model.safetensors and a model card.
 * @throws CheckpointError when the folder cannot be written.
 */
export async function savePretrained(
  peft: PeftModel,
  folder: string,
  { storage = diskStorage(), pruned = true }: SaveOptions = {},
): Promise<void> {
  const { model, adapter } = peft;
  const file = adapter.method.toFile(adapter, { pruned });
  const config = adapterConfig(model, Object.keys(adapter.saved), file);
  const tensors = { ...file.tensors, ...savedModuleTensors(peft) };
  await storage.write(`${folder}/${ADAPTER_WEIGHTS}`, safetensors(tensors));
  await storage.write(`${folder}/${ADAPTER_CONFIG}`, utf8(`${JSON.stringify(sortedKeys(config), null, 2)}\n`));
  await storage.write(`${folder}/README.md`, utf8(modelCard(peft, String(config.peft_type))));
}

/** Where an adapter is read from and by which methods. */
export interface LoadOptions {
  /** The methods that the adapter may have been made with. */
  readonly methods: readonly PeftMethod[];
  readonly storage?: Storage;
  readonly adapterName?: string;
}

/**
 * Puts an adapter folder, written here or by PEFT, on the model it was made for.
 * @throws CheckpointError naming the file, tensor or field at fault.
 */
export async function loadPretrained(
  model: Model,
  folder: string,
  { methods, storage = diskStorage(), adapterName = 'default' }: LoadOptions,
): Promise<PeftModel> {
  const config = parseConfig(await storage.read(`${folder}/${ADAPTER_CONFIG}`), `${folder}/${ADAPTER_CONFIG}`);
  const method = methodFor(config, methods, folder);
  const tensors = adapterTensors(await storage.read(`${folder}/${ADAPTER_WEIGHTS}`), `${folder}/${ADAPTER_WEIGHTS}`);
  const { own, saved } = splitSaved(tensors, model, config);
  const read = method.fromFile({ config, tensors: own });
  const parsed = method.parseConfig({ ...targetsOf(config, model), ...read.config });
  const peft = attach(model, { method, config: parsed }, { adapterName });
  const values = { ...read.values, ...savedModuleValues(saved, model) };
  peft.adapter = { ...peft.adapter, values: fittingValues(peft, values, `${folder}/${ADAPTER_WEIGHTS}`) };
  return peft;
}

function adapterConfig(model: Model, saved: readonly string[], file: AdapterFile): Record<string, unknown> {
  return {
    auto_mapping: null,
    base_model_name_or_path: model.name,
    inference_mode: true,
    modules_to_save: saved,
    revision: null,
    task_type: 'SEQ_CLS',
    ...file.config,
  };
}

/** The modules trained whole, as torch holds them: weights `[out, in]`. */
function savedModuleTensors({ adapter }: PeftModel): HostTensors {
  const tensors: HostTensors = {};
  for (const layer of Object.values(adapter.saved)) {
    for (const [name, value] of Object.entries(valuesOf(layer, adapter.values))) {
      tensors[tensorKey(layer, name)] = name === 'weight' ? transposed(value) : value;
    }
  }
  return tensors;
}

function savedModuleValues(tensors: HostTensors, model: Model): HostTensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([key, tensor]) => {
      const site = model.sites.find(({ path }) => key === `${path}.weight`);
      return [key, site?.kind === 'linear' ? transposed(tensor) : tensor];
    }),
  );
}

function safetensors(tensors: HostTensors): Uint8Array {
  const entries = Object.entries(tensors).map(
    ([key, { shape, data }]) =>
      [`${PREFIX}${key}`, { dtype: 'F32' as const, shape, data: data as Float32Array }] as const,
  );
  return writeSafetensors(new Map(entries), { format: 'pt' });
}

/** The tensors of the weights file by module path and suffix, as float32. */
function adapterTensors(bytes: Uint8Array, path: string): HostTensors {
  const tensors: HostTensors = {};
  for (const [key, tensor] of parsedSafetensors(bytes, path)) {
    const name = key.startsWith(PREFIX) ? key.slice(PREFIX.length) : key;
    tensors[name.replace('.modules_to_save.', '.')] = hostTensor(toFloat32(tensor), tensor.shape);
  }
  return tensors;
}

function parsedSafetensors(bytes: Uint8Array, path: string): ReturnType<typeof readSafetensors> {
  try {
    return readSafetensors(bytes);
  } catch (cause) {
    throw new CheckpointError(`${path}: ${cause instanceof Error ? cause.message : String(cause)}`, path, cause);
  }
}

function parseConfig(bytes: Uint8Array, path: string): Record<string, unknown> {
  if (bytes.length > MAX_CONFIG_BYTES) {
    throw new CheckpointError(
      `${path} has ${bytes.length} bytes; an adapter configuration has at most ${MAX_CONFIG_BYTES}`,
      path,
    );
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CheckpointError(`${path} is not JSON: ${String(cause)}`, path, cause);
  }
  if (
    parsed === null ||
    typeof parsed !== 'object' ||
    typeof (parsed as { peft_type?: unknown }).peft_type !== 'string'
  ) {
    throw new CheckpointError(`${path} needs a 'peft_type', the name of the method that made it`, path);
  }
  return parsed as Record<string, unknown>;
}

/** The method of that very type before one that can read it too. */
function methodFor(config: Record<string, unknown>, methods: readonly PeftMethod[], folder: string): PeftMethod {
  const type = String(config.peft_type);
  const found =
    methods.find(({ name }) => name.toUpperCase() === type) ??
    methods.find(({ peftTypes }) => peftTypes.includes(type));
  if (found) return found;
  const known = [...new Set(methods.flatMap(({ peftTypes }) => peftTypes))].join(', ');
  throw new CheckpointError(
    `${folder} holds a ${type} adapter; the methods given read ${known || 'nothing'}`,
    'peft_type',
  );
}

function splitSaved(
  tensors: HostTensors,
  model: Model,
  config: Record<string, unknown>,
): { own: HostTensors; saved: HostTensors } {
  const names = [model.head, ...stringList(config.modules_to_save)];
  const paths = model.sites.map(({ path }) => path).filter((path) => names.some((name) => isNamed(path, name)));
  const isSaved = (key: string): boolean => paths.some((path) => key === `${path}.weight` || key === `${path}.bias`);
  const entries = Object.entries(tensors);
  return {
    own: Object.fromEntries(entries.filter(([key]) => !isSaved(key))),
    saved: Object.fromEntries(entries.filter(([key]) => isSaved(key))),
  };
}

function targetsOf(config: Record<string, unknown>, model: Model): Partial<TargetConfig> {
  const saved = stringList(config.modules_to_save).filter((name) => !isNamed(model.head, name));
  return {
    ...(config.target_modules == null ? {} : { targetModules: config.target_modules as string | string[] }),
    ...(config.exclude_modules == null ? {} : { excludeModules: config.exclude_modules as string | string[] }),
    ...(saved.length === 0 ? {} : { modulesToSave: saved }),
  };
}

/** The values, when they are just those of the layers. @throws CheckpointError for a missing, unknown or mis-shaped one. */
function fittingValues({ adapter }: PeftModel, values: HostTensors, path: string): HostTensors {
  const expected = new Map<string, HostTensor>();
  for (const layer of Object.values(allLayers(adapter))) {
    for (const [name, { initial }] of Object.entries({ ...layer.params, ...layer.state })) {
      expected.set(tensorKey(layer, name), initial);
    }
  }
  const unknown = Object.keys(values).find((key) => !expected.has(key));
  if (unknown) throw new CheckpointError(`${path}: '${unknown}' belongs to no adapted module of this model`, unknown);
  const fitting: HostTensors = {};
  for (const [key, { shape }] of expected) {
    const value = values[key];
    if (!value) throw new CheckpointError(`${path}: the tensor of '${key}' is missing`, key);
    if (value.shape.join() !== shape.join()) {
      throw new CheckpointError(
        `${path}: '${key}' has shape [${value.shape.join(', ')}], expected [${shape.join(', ')}]`,
        key,
      );
    }
    fitting[key] = value;
  }
  return fitting;
}

function stringList(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

function sortedKeys(record: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
