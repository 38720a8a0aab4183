/** The tensors of a GGUF file with the names, values and order of rows that transformers has. */
import { toFloat32, type GgufFile } from '@peftjs/gguf';
import type { TensorPiece } from '@peftjs/safetensors';
import { fileError } from '../json.js';
import type { WeightsFile } from '../folder.js';
import { architectureOf, metadataValue } from './config.js';

/** Modules of the network, named as in llama.cpp and in transformers. */
const MODULES: Readonly<Record<string, string>> = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
};

/** Modules of a layer. */
const LAYER_MODULES: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

/**
 * Returns the weights as transformers names them, as float32. They are decoded in pieces, when they are read.
 * @throws CheckpointError for a tensor without a name in transformers.
 */
export function weightsOf(file: GgufFile, path: string): WeightsFile {
  const tensors = new Map(file.names.map((tensor) => [transformersName(tensor, path), tensor]));
  const tensorOf = (name: string): string => tensors.get(name) ?? name;
  const headsOf = pairedHeads(file, path);
  return {
    names: [...tensors.keys()],
    spec: (name) => ({ dtype: 'F32', shape: file.spec(tensorOf(name)).shape }),
    async *pieces(name) {
      const heads = headsOf(tensorOf(name));
      if (heads === undefined) yield* decoded(file, tensorOf(name));
      else yield await halved(file, tensorOf(name), heads);
    },
    close: () => file.close(),
  };
}

function transformersName(tensor: string, path: string): string {
  const [, layer, module = '', end = ''] = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(tensor) ?? [];
  const name = (layer === undefined ? MODULES : LAYER_MODULES)[module];
  if (name !== undefined) return `${layer === undefined ? '' : `model.layers.${layer}.`}${name}.${end}`;
  const hint = tensor === 'rope_freqs.weight' ? ' (the scaled positions of Llama 3.1)' : '';
  throw fileError(path, `tensor '${tensor}'${hint} is not supported and may change the network's outputs`);
}

/**
 * Returns a function that gives the number of heads of a tensor whose rows llama.cpp has in another order: of Llama's
 * queries and keys, in which it rotates neighbours, while transformers rotates the halves of a head.
 */
function pairedHeads(file: GgufFile, path: string): (tensor: string) => number | undefined {
  if (architectureOf(file, path) !== 'llama') return () => undefined;
  const heads = metadataValue(file, 'llama.attention.head_count');
  const keyHeads = metadataValue(file, 'llama.attention.head_count_kv') ?? heads;
  return (tensor) => {
    const [, which] = /^blk\.\d+\.attn_([qk])\.(?:weight|bias)$/.exec(tensor) ?? [];
    return which === undefined ? undefined : Number(which === 'q' ? heads : keyHeads);
  };
}

async function* decoded(file: GgufFile, tensor: string): AsyncIterable<TensorPiece> {
  let memory: Float32Array | undefined;
  for await (const { start, rows } of file.pieces(tensor)) {
    const data = toFloat32(rows, memory);
    memory ??= data;
    yield { start, rows: { dtype: 'F32', shape: rows.shape, data } };
  }
}

/** Returns the whole tensor, with the even rows of each head before its odd ones. */
async function halved(file: GgufFile, tensor: string, heads: number): Promise<TensorPiece> {
  const stored = await file.read(tensor);
  const [count = 1] = stored.shape;
  const values = toFloat32(stored);
  const data = new Float32Array(values.length);
  const [width, half] = [values.length / count, count / heads / 2];
  for (let row = 0; row < count; row++) {
    const [head, within] = [Math.floor(row / (2 * half)), row % (2 * half)];
    const from = head * 2 * half + (within < half ? 2 * within : 2 * (within - half) + 1);
    data.set(values.subarray(from * width, (from + 1) * width), row * width);
  }
  return { start: 0, rows: { dtype: 'F32', shape: stored.shape, data } };
}
