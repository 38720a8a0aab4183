import { mkdir, writeFile } from 'node:fs/promises';
import { createRng, sizeOf } from '@peftjs/core';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';

/** The size of an encoder of transformers, and of the batches it is timed with. */
export interface EncoderShape {
  readonly type: 'bert' | 'deberta-v2';
  readonly layers: number;
  readonly hidden: number;
  readonly ffn: number;
  readonly vocabulary: number;
}

/** The encoders that are timed, by name. */
export const encoders = {
  minilm: { type: 'bert', layers: 6, hidden: 384, ffn: 1536, vocabulary: 30_522 },
  'bert-base': { type: 'bert', layers: 12, hidden: 768, ffn: 3072, vocabulary: 30_522 },
  'deberta-v3-base': { type: 'deberta-v2', layers: 12, hidden: 768, ffn: 3072, vocabulary: 128_100 },
} as const satisfies Record<string, EncoderShape>;

export type EncoderName = keyof typeof encoders;

const HEADS = 12;
const POSITIONS = 512;

/**
 * Writes an encoder as transformers saves it, with random weights: real sizes for timings, no use for anything else.
 */
export async function writeCheckpoint(name: EncoderName, folder: string): Promise<void> {
  const shape: EncoderShape = encoders[name];
  const shapes = shape.type === 'bert' ? bertShapes(shape) : debertaShapes(shape);
  const tensors = Object.entries(shapes).map(([key, dims]) => [key, randomTensor(key, dims)] as const);
  await mkdir(folder, { recursive: true });
  await writeFile(`${folder}/model.safetensors`, writeSafetensors(new Map(tensors), { format: 'pt' }));
  await writeFile(`${folder}/tokenizer.json`, JSON.stringify(tokenizer));
  await writeFile(`${folder}/config.json`, JSON.stringify(config(shape)));
}

/** A tokenizer that nobody asks: batches are random token numbers. */
const tokenizer = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Whitespace' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordPiece', unk_token: 'a', vocab: { a: 0, b: 1 } },
};

function config({ type, layers, hidden, ffn, vocabulary }: EncoderShape): Record<string, unknown> {
  const sizes = {
    model_type: type,
    num_hidden_layers: layers,
    hidden_size: hidden,
    intermediate_size: ffn,
    num_attention_heads: HEADS,
    vocab_size: vocabulary,
    max_position_embeddings: POSITIONS,
  };
  if (type === 'bert') return sizes;
  return {
    ...sizes,
    type_vocab_size: 0,
    layer_norm_eps: 1e-7,
    relative_attention: true,
    position_buckets: POSITIONS / 2,
    max_relative_positions: -1,
    norm_rel_ebd: 'layer_norm',
    share_att_key: true,
    pos_att_type: ['p2c', 'c2p'],
    position_biased_input: false,
  };
}

type Shapes = Record<string, readonly number[]>;

function bertShapes({ layers, hidden, ffn, vocabulary }: EncoderShape): Shapes {
  const names = { query: 'query', key: 'key', value: 'value' };
  return {
    'bert.embeddings.word_embeddings.weight': [vocabulary, hidden],
    'bert.embeddings.position_embeddings.weight': [POSITIONS, hidden],
    'bert.embeddings.token_type_embeddings.weight': [2, hidden],
    ...norm('bert.embeddings.LayerNorm', hidden),
    ...layerShapes('bert', names, { layers, hidden, ffn }),
    ...linear('bert.pooler.dense', hidden, hidden),
  };
}

function debertaShapes({ layers, hidden, ffn, vocabulary }: EncoderShape): Shapes {
  const names = { query: 'query_proj', key: 'key_proj', value: 'value_proj' };
  return {
    'deberta.embeddings.word_embeddings.weight': [vocabulary, hidden],
    ...norm('deberta.embeddings.LayerNorm', hidden),
    'deberta.encoder.rel_embeddings.weight': [POSITIONS, hidden],
    ...norm('deberta.encoder.LayerNorm', hidden),
    ...layerShapes('deberta', names, { layers, hidden, ffn }),
  };
}

function layerShapes(
  root: string,
  names: Readonly<Record<'query' | 'key' | 'value', string>>,
  { layers, hidden, ffn }: Pick<EncoderShape, 'layers' | 'hidden' | 'ffn'>,
): Shapes {
  const all = Array.from({ length: layers }, (_, layer) => {
    const path = `${root}.encoder.layer.${layer}`;
    return {
      ...Object.assign({}, ...Object.values(names).map((at) => linear(`${path}.attention.self.${at}`, hidden, hidden))),
      ...linear(`${path}.attention.output.dense`, hidden, hidden),
      ...norm(`${path}.attention.output.LayerNorm`, hidden),
      ...linear(`${path}.intermediate.dense`, ffn, hidden),
      ...linear(`${path}.output.dense`, hidden, ffn),
      ...norm(`${path}.output.LayerNorm`, hidden),
    } as Shapes;
  });
  return Object.assign({}, ...all) as Shapes;
}

function linear(path: string, outputs: number, inputs: number): Shapes {
  return { [`${path}.weight`]: [outputs, inputs], [`${path}.bias`]: [outputs] };
}

function norm(path: string, width: number): Shapes {
  return { [`${path}.weight`]: [width], [`${path}.bias`]: [width] };
}

/** Gains of one, biases of zero, and weights from -0.03 to 0.03. */
function randomTensor(key: string, shape: readonly number[]): StoredTensor {
  const data = new Float32Array(sizeOf(shape));
  if (/LayerNorm\.weight$/.test(key)) data.fill(1);
  else if (!key.endsWith('.bias')) {
    const rng = createRng(7).fork(key);
    for (let at = 0; at < data.length; at++) data[at] = 0.06 * (rng.uniform() - 0.5);
  }
  return { dtype: 'F32', shape, data };
}
