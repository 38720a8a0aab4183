/** The modules that sentence-transformers puts after the pooling: their settings and weights in files. */
import { CheckpointError, tensorAt, UnsupportedError, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { transposed } from '@peftjs/core/linalg';
import { hostTensor } from '@peftjs/core';
import { openSafetensors, toFloat32, writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { checkFinite } from '../architecture.js';
import { withoutWeights, type ModelFolder } from '../folder.js';
import { encodeJson, field, shown } from '../json.js';
import { ACTIVATIONS, type EmbeddingModule } from '../pooling.js';
import { positiveInteger, type ConfigFile } from './config.js';

/** The largest size of a file of settings. */
export const SETTINGS_BYTES = 2 ** 20;

/** The functions that read the settings of each kind of module. */
export const MODULE_READERS = {
  async Dense(folder: ModelFolder, path: string): Promise<EmbeddingModule> {
    const config = await settingsOf(folder, path);
    const { file, settings } = config;
    for (const name of ['module_input_name', 'module_output_name']) {
      assertField(file, settings, name, ['sentence_embedding', null, undefined]);
    }
    const type = field(settings, 'activation_function') ?? 'torch.nn.modules.activation.Tanh';
    const [, activation = ''] = typeof type === 'string' ? (/^torch\.nn\.(?:\w+\.)*(\w+)$/.exec(type) ?? []) : [];
    if (!Object.hasOwn(ACTIVATIONS, activation)) {
      throw new UnsupportedError(
        `${file}: 'activation_function' is ${shown(type)}; expected one of torch.nn: ${Object.keys(ACTIVATIONS).join(', ')}`,
        file,
      );
    }
    return {
      kind: 'Dense',
      path,
      inFeatures: positiveInteger(config, 'in_features'),
      outFeatures: positiveInteger(config, 'out_features'),
      bias: field(settings, 'bias') !== false,
      activation,
      residual: field(settings, 'use_residual') === true,
    };
  },
  async LayerNorm(folder: ModelFolder, path: string): Promise<EmbeddingModule> {
    return { kind: 'LayerNorm', path, features: positiveInteger(await settingsOf(folder, path), 'dimension') };
  },
  Normalize: (): Promise<EmbeddingModule> => Promise.resolve({ kind: 'Normalize' }),
};

/** Reads the settings of a module from its folder. */
export async function settingsOf(folder: ModelFolder, path: string): Promise<ConfigFile> {
  const name = `${path}/config.json`;
  return { file: folder.pathOf(name), settings: await folder.json(name, SETTINGS_BYTES), read: new Set() };
}

/** @throws UnsupportedError unless a setting has one of the values that are known. */
export function assertField(file: string, settings: unknown, name: string, known: readonly unknown[]): void {
  const value = field(settings, name);
  if (known.includes(value)) return;
  throw new UnsupportedError(`${file}: '${name}' is ${shown(value)}; expected ${shown(known[0])}`, file);
}

/** A module with weights. */
type WeightedModule = Exclude<EmbeddingModule, { kind: 'Normalize' }>;

/** Returns the shapes of a module's weights in PyTorch's layout: [out, in] for linear ones. */
function shapesOf(module: WeightedModule): Record<string, readonly number[]> {
  if (module.kind === 'LayerNorm') return { 'norm.weight': [module.features], 'norm.bias': [module.features] };
  const { inFeatures, outFeatures, bias, residual } = module;
  return {
    'linear.weight': [outFeatures, inFeatures],
    ...(bias && { 'linear.bias': [outFeatures] }),
    ...(residual && inFeatures !== outFeatures && { 'residual.weight': [outFeatures, inFeatures] }),
  };
}

/** Reads a module's weights. None for one without. @throws CheckpointError for a missing or misshapen one. */
export async function readModule(folder: ModelFolder, module: EmbeddingModule): Promise<Record<string, HostTensor>> {
  if (module.kind === 'Normalize') return {};
  const name = `${module.path}/model.safetensors`;
  const path = folder.pathOf(name);
  if (!(await folder.exists(name))) {
    const hint = await withoutWeights(folder, `${module.path}/pytorch_model.bin`);
    throw new CheckpointError(`there is no ${path}: ${hint}`, path);
  }
  const stored = await openSafetensors(await folder.source(name));
  try {
    const weights: Record<string, HostTensor> = {};
    for (const [key, shape] of Object.entries(shapesOf(module))) {
      const found = stored.names.includes(key) ? stored.spec(key).shape : undefined;
      if (found?.join() !== shape.join()) {
        const got = found ? `[${found.join(', ')}]` : 'nothing';
        throw new CheckpointError(`${path}: weight '${key}' must be [${shape.join(', ')}], got ${got}`, key);
      }
      const tensor = hostTensor(toFloat32(await stored.read(key)).slice(), shape);
      weights[`${module.path}.${key}`] = shape.length === 2 ? transposed(tensor) : tensor;
    }
    checkFinite(weights, path);
    return weights;
  } finally {
    await stored.close();
  }
}

/** Returns the files of a module by path. None for one without settings. */
export function moduleFiles(
  module: EmbeddingModule,
  folder: string,
  weights: HostTensors,
): (readonly [path: string, bytes: Uint8Array])[] {
  if (module.kind === 'Normalize') return [];
  const tensors = Object.entries(shapesOf(module)).map(([key, shape]): [string, StoredTensor] => {
    const tensor = tensorAt(weights, `${module.path}.${key}`);
    const { data } = shape.length === 2 ? transposed(tensor) : tensor;
    return [key, { dtype: 'F32', shape: [...shape], data: data as Float32Array }];
  });
  return [
    [`${folder}/config.json`, encodeJson(moduleSettings(module))],
    [`${folder}/model.safetensors`, writeSafetensors(new Map(tensors), { format: 'pt' })],
  ];
}

function moduleSettings(module: WeightedModule): Record<string, unknown> {
  if (module.kind === 'LayerNorm') return { dimension: module.features };
  const { inFeatures, outFeatures, bias, activation, residual } = module;
  const where = activation === 'Identity' ? 'linear' : 'activation';
  return {
    in_features: inFeatures,
    out_features: outFeatures,
    bias,
    activation_function: `torch.nn.modules.${where}.${activation}`,
    ...(residual && { use_residual: true }),
  };
}
