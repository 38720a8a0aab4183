import { ShapeError } from '../errors.js';
import type { Axis, InputSpec } from '../contracts/executor.js';
import type { AdapterLayers } from '../contracts/layer.js';
import type { Batch, InputBatch, Model } from '../contracts/model.js';
import { initialValues } from '../adapter/peft-model.js';
import { namedAxes } from './axes.js';
import { rowOf } from '../quantized.js';
import {
  hostTensor,
  mapValues,
  sizeOf,
  specOf,
  type HostTensor,
  type HostTensors,
  type TensorSpec,
} from '../tensors.js';

/*
 * The inputs that programs get from batches and layers, and the axes whose size differs from run to run: 'batch', and
 * 'tokens' where a batch has an attention mask.
 */

/**
 * Returns the model's inputs for a batch: those of the batch, and the rows of frozen embeddings by their paths.
 * @throws ShapeError for rows with too many tokens, a missing input, and a row that an embedding does not have.
 */
export function modelInputs(model: Model, layers: AdapterLayers, batch: Pick<InputBatch, 'inputs'>): HostTensors {
  assertLength(model, batch.inputs);
  assertTypes(model, batch.inputs);
  const inputs: HostTensors = { ...batch.inputs };
  for (const { site, ids } of model.lookups) {
    const numbers = batch.inputs[ids];
    if (!numbers) throw new ShapeError(`the model reads '${ids}', which the batch does not have`, ids);
    const table = tableOf(model, site, numbers);
    if (!(site in layers)) inputs[site] = gatherRows(table, numbers);
  }
  return inputs;
}

/**
 * Rejects rows that are too long. One graph serves every length, so the network, which is only traced, cannot reject
 * them.
 */
function assertLength({ name, maxTokens = Infinity }: Model, { inputIds, attentionMask }: HostTensors): void {
  for (const [input, tensor] of Object.entries({ inputIds, attentionMask })) {
    const tokens = tensor?.shape[1] ?? 0;
    if (tokens <= maxTokens) continue;
    throw new ShapeError(`${name} reads at most ${maxTokens} tokens, got ${tokens}: cut the sequences`, input);
  }
}

/** Rejects unknown token types. Their table is in the graph, whose own error would not say what is wrong. */
function assertTypes({ name, sites }: Model, { tokenTypeIds }: HostTensors): void {
  const table = sites.find(({ path, kind }) => kind === 'embedding' && /(^|\.)token_type_embeddings$/.test(path));
  if (!table || !tokenTypeIds) return;
  const odd = tokenTypeIds.data.find((type) => type < 0 || type >= table.inFeatures);
  if (odd === undefined) return;
  throw new ShapeError(`${name} has token types 0 to ${table.inFeatures - 1}, got ${odd}`, 'tokenTypeIds');
}

/** Returns the embeddings whose rows are gathered on the host: those that no layer adapts. */
export function hostLookups(model: Model, layers: AdapterLayers): Model['lookups'] {
  return model.lookups.filter(({ site }) => !(site in layers));
}

/** The sizes that name the axes of a batch. */
export interface BatchSizes {
  /** The number of rows. */
  readonly rows: number;
  /** The number of tokens per row; undefined without an attention mask. */
  readonly tokens?: number | undefined;
  /** The number of texts per row. Default 1. */
  readonly columns?: number | undefined;
}

/**
 * Returns the specs of a batch's tensors. Axes as long as its rows, the texts of its rows, or its tokens are named.
 * @param axes the model's own names for the axes of its inputs
 */
export function dynamicSpecs<K extends string>(
  tensors: Readonly<Record<K, HostTensor>>,
  { rows, tokens, columns = 1 }: BatchSizes,
  axes: Model['axes'] = {},
): Record<K, InputSpec> {
  const named = (dim: number, place: number): Axis => {
    if (place === 0 && dim === rows) return 'batch';
    if (place === 0 && dim === columns * rows) return `${columns}*batch`;
    return place === 1 && dim === tokens ? 'tokens' : dim;
  };
  return mapValues(tensors, ({ dtype, shape }: HostTensor, name) => ({
    dtype,
    shape: shape.map((dim, place) => axes[name]?.[place] ?? named(dim, place)),
  }));
}

/**
 * Names the axes of labels that are not whole numbers: they have one number per class, even in a batch with as many
 * tokens as there are classes.
 */
export function axesOfLabels(name: string, { dtype, shape }: HostTensor): NonNullable<Model['axes']> {
  return dtype === 'int32' ? {} : { [name]: ['batch', ...shape.slice(1)] };
}

/** Returns a batch as programs get it, and the specs of its tensors, in which every axis that varies has a name. */
export function fedBatch(model: Model, layers: AdapterLayers, batch: Batch) {
  const { labels, rowWeights } = batch;
  const inputs = modelInputs(model, layers, batch);
  const sizes = sizesOf(batch);
  const specs = {
    inputs: dynamicSpecs(inputs, sizes, { ...model.axes, ...batch.axes }),
    ...dynamicSpecs({ labels, rowWeights }, sizes, axesOfLabels('labels', labels)),
  };
  return { fed: { inputs, labels, rowWeights }, specs };
}

/** Returns the size of each named axis in a batch. */
export function axisSizes(model: Model, layers: AdapterLayers, batch: Batch): Record<string, number> {
  const { fed, specs } = fedBatch(model, layers, batch);
  const tensors: HostTensors = { ...fed.inputs, labels: fed.labels, rowWeights: fed.rowWeights };
  const sizes = Object.entries<InputSpec>({ ...specs.inputs, labels: specs.labels, rowWeights: specs.rowWeights });
  return Object.fromEntries(
    sizes.flatMap(([name, { shape }]) =>
      shape.flatMap((axis, place) => {
        const [term, ...others] = typeof axis === 'string' ? namedAxes(axis) : [];
        if (!term || others.length > 0) return [];
        return [[term.name, (tensors[name]?.shape[place] as number) / term.factor] as const];
      }),
    ),
  );
}

/** Returns the sizes of a batch. */
export function sizesOf({ inputs, rowWeights, columns }: Omit<InputBatch, 'rows'>): BatchSizes {
  return { rows: rowWeights.shape[0] as number, tokens: inputs.attentionMask?.shape[1], columns };
}

/** Returns the specs of the tensors of layers, by `<path>.<name>`. */
export function layerSpecs(layers: AdapterLayers): Record<string, TensorSpec> {
  return mapValues(initialValues(layers), specOf);
}

/** Returns an embedding table that has the rows of all IDs. @throws ShapeError for a row that does not exist. */
function tableOf(model: Model, site: string, { data }: HostTensor): HostTensor {
  const table = model.weights[`${site}.weight`];
  if (!table) throw new ShapeError(`${model.name} has no embedding '${site}'`, site);
  const [count = 0] = table.shape;
  const odd = data.find((id) => id < 0 || id >= count);
  if (odd === undefined) return table;
  throw new ShapeError(
    `row ${odd} is not in '${site}', which has ${count} rows; does the tokenizer match the model?`,
    site,
  );
}

/** Gathers rows of an embedding table: ids `[..]` -> `[.., dim]`. */
function gatherRows(table: HostTensor, ids: HostTensor): HostTensor {
  const [, width = 0] = table.shape;
  const gathered = new Float32Array(sizeOf(ids.shape) * width);
  ids.data.forEach((id, position) => {
    gathered.set(rowOf(table, id), position * width);
  });
  return hostTensor(gathered, [...ids.shape, width]);
}
