/** Writes language models as llama.cpp, Ollama and LM Studio open them. */
import { diskStorage, mergeAndUnload, type Model, type PeftModel } from '@peftjs/core';
import { anyModel, assertArgument, assertFullPrecision } from '@peftjs/core/model';
import { fromFloat32, writeGguf, type EncodedType, type GgufTensor, type MetadataValue } from '@peftjs/gguf';
import * as v from 'valibot';
import { checkFinite, weightShapes } from '../architecture.js';
import type { GgufContent, SourceFiles } from '../checkpoint.js';
import { assertSameNetwork, configMetadata, ropeTensors } from '../gguf/config-metadata.js';
import type { DescribedFile } from '../gguf/rope.js';
import { changedBack, type Values } from '../gguf/tensors.js';
import { tokenizerMetadata } from '../gguf/tokenizer-metadata.js';
import { fileError } from '../json.js';
import { withBuiltIn } from '../transformers/checkpoint.js';
import { readSource, untied, type ExportOptions } from './files.js';
import { assertGguf, targetOf, tensorOf, type GgufTarget } from './gguf-target.js';
import { refuseAddedBias, storedWeights } from './merged.js';
import { described } from './settings.js';

/** How the matrices of a GGUF file are held: in float32, in float16, or in blocks of 8 bits (Q8_0). */
export type GgufDtype = 'fp32' | 'fp16' | 'q8';

/** Options of a model in a GGUF file. */
export interface GgufOptions extends Omit<ExportOptions, 'labels'> {
  /** How matrices are held. Vectors are float32. Default 'fp16'. */
  readonly dtype?: GgufDtype;
}

/** By dtype: the type of matrices, and the number of the whole in `general.file_type`. */
const TYPES: Readonly<Record<GgufDtype, { readonly matrices: EncodedType; readonly file: number }>> = {
  fp32: { matrices: 'F32', file: 0 },
  fp16: { matrices: 'F16', file: 1 },
  q8: { matrices: 'Q8_0', file: 7 },
};

/**
 * Writes a language model with its tokenizer and chat template; active adapters are merged. If the model was loaded from
 * a GGUF file, the metadata are copied from there; otherwise they are made from config.json and tokenizer.json.
 *
 * @param file The path of the file, which ends in `.gguf`.
 * @throws ConfigError for an invalid option, and for a path with another ending.
 * @throws UnsupportedError for an architecture that is not written, for weights held in 8 or 4 bits, and for an adapter
 * that adds a bias where the model has none.
 * @throws CheckpointError for a setting or a tokenizer that is not written, for weights that are not finite, when the
 * source's files are missing, or writing fails.
 * @example
 * await saveGguf(peft, 'model.gguf', { dtype: 'q8' });
 */
export async function saveGguf(model: Model | PeftModel, file: string, options: GgufOptions = {}): Promise<void> {
  assertArgument('model', model, anyModel);
  const base = 'adapters' in model ? model.model : model;
  assertGguf(base, file, options, { dtype: v.optional(v.picklist(Object.keys(TYPES))) });
  assertFullPrecision(base);
  const source = await readSource(base, options);
  const target = targetOf(base, source);
  const { metadata, besides } = source.gguf ?? (await newContent(base, source, target, options));
  if ('adapters' in model) refuseAddedBiases(model);
  const merged = 'adapters' in model ? mergeAndUnload(model) : model;
  checkFinite(merged.weights, merged.name);
  const { dtype = 'fp16', storage = diskStorage() } = options;
  const { transformers = target.transformers } = untied(source, merged);
  const tensors = new Map(besides);
  for (const [name, weight] of storedWeights(merged, transformers, described(merged))) {
    const tensor = tensorOf(name, target);
    tensors.set(tensor, encoded(tensor, changedBack(weight, target.changes(tensor)), dtype));
  }
  const bytes = writeGguf(
    tensors,
    new Map(metadata)
      .set('general.file_type', { type: 'uint32', value: TYPES[dtype].file })
      .set('general.quantization_version', { type: 'uint32', value: 2 }),
  );
  await storage.write(file, bytes);
}

/** @throws UnsupportedError for an adapter that adds a bias where the model has none, before it is merged. */
function refuseAddedBiases({ model, adapters, active }: PeftModel): void {
  for (const { site, mergedBias } of active.flatMap((name) => Object.values(adapters.get(name)?.layers ?? {}))) {
    if (mergedBias && !(`${site.path}.bias` in model.weights)) refuseAddedBias(site.path);
  }
}

/** Returns what describes a model of transformers. @throws CheckpointError when a GGUF file cannot describe it. */
async function newContent(
  { name }: Model,
  { tokenizer }: SourceFiles,
  target: GgufTarget,
  { modelTypes = [] }: GgufOptions,
): Promise<GgufContent> {
  const { family, architecture, transformers } = target;
  const { config, type } = transformers;
  const { sites, head } = type.architecture(config, 'causal-lm');
  const [rows = 0, width = 0] = [sites[0]?.inFeatures, sites[0]?.outFeatures]; // the table of words
  const metadata = new Map<string, MetadataValue>([
    ...configMetadata(config, architecture, family),
    ['general.type', { type: 'string', value: 'model' }],
    ['general.name', { type: 'string', value: name.split('/').at(-1) ?? name }],
    ...(await tokenizerMetadata(tokenizer, { config, architecture, rows })),
  ]);
  const besides = ropeTensors(config, family);
  const weights = Object.keys(weightShapes({ sites: [...sites, ...head.sites(rows)], encodeOnly: [] }));
  const file: DescribedFile = {
    metadata,
    names: [...weights.map((weight) => tensorOf(weight, target)), ...besides.keys()],
    spec: (tensor) => besides.get(tensor) ?? { type: 'F32', shape: [rows, width] }, // only the table's is read
    read: (tensor) => Promise.resolve(besides.get(tensor) as GgufTensor),
  };
  const read = withBuiltIn(modelTypes).find((each) => each.name === (family.modelType ?? architecture)) ?? type;
  await assertSameNetwork(file, config, { own: type, read });
  return { metadata, besides };
}

/** The table of positions, which llama.cpp keeps in float32. */
const POSITIONS = 'position_embd.weight';

/** The largest number that float16 does not round to infinity. */
const LARGEST_HALF = 65_519;

/** Encodes a weight: vectors in float32, and matrices in float16 if their rows are not whole blocks of 8 bits. */
function encoded(name: string, { shape, data }: Values, dtype: GgufDtype): GgufTensor {
  if (shape.length < 2 || name === POSITIONS) return fromFloat32('F32', shape, data);
  const { matrices } = TYPES[dtype];
  const type = matrices === 'Q8_0' && (shape.at(-1) as number) % 32 !== 0 ? 'F16' : matrices;
  const large = type === 'F16' ? data.find((value) => Math.abs(value) > LARGEST_HALF) : undefined;
  if (large === undefined) return fromFloat32(type, shape, data);
  throw fileError(name, `${large} does not fit into float16: use the dtype fp32`);
}
