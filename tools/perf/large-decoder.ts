/**
 * Measures time and memory of a decoder of the shape of Qwen3 0.6B with random weights: loading it, and LoRA steps of 4
 * x 128 tokens. Each measurement is a separate process, because the peak of resident memory is per process.
 *
 *   npx tsx --conditions @peftjs/source tools/perf/large-decoder.ts FOLDER
 *
 * Writes the checkpoint to FOLDER unless it exists: 1.2 GB in bfloat16. tools/perf/large-decoder.py measures PyTorch
 * and PEFT on it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { attach, hostTensor, train, type Batch, type TrainingData } from '@peftjs/core';
import { ConfigError, createRng, hostIntegers } from '@peftjs/core/method';
import { isQuantized } from '@peftjs/core/model';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, type WeightDtype } from '@peftjs/models';

const CONFIG = {
  model_type: 'qwen3',
  architectures: ['Qwen3ForCausalLM'],
  hidden_size: 1024,
  num_hidden_layers: 28,
  num_attention_heads: 16,
  num_key_value_heads: 8,
  head_dim: 128,
  intermediate_size: 3072,
  vocab_size: 151_936,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-6,
  rope_theta: 1e6,
  tie_word_embeddings: true,
  hidden_act: 'silu',
};
const TOKENIZER = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Whitespace' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordPiece', unk_token: 'a', vocab: { a: 0, b: 1 } },
};

/** Returns the shape of every weight by its key in transformers. */
function shapes(): Map<string, number[]> {
  const { hidden_size: hidden, intermediate_size: inner, head_dim: size } = CONFIG;
  const [queries, keys] = [CONFIG.num_attention_heads * size, CONFIG.num_key_value_heads * size];
  const layer = (index: number): [string, number[]][] =>
    Object.entries({
      'self_attn.q_proj': [queries, hidden],
      'self_attn.k_proj': [keys, hidden],
      'self_attn.v_proj': [keys, hidden],
      'self_attn.o_proj': [hidden, queries],
      'self_attn.q_norm': [size],
      'self_attn.k_norm': [size],
      'mlp.gate_proj': [inner, hidden],
      'mlp.up_proj': [inner, hidden],
      'mlp.down_proj': [hidden, inner],
      input_layernorm: [hidden],
      post_attention_layernorm: [hidden],
    }).map(([name, shape]) => [`model.layers.${index}.${name}.weight`, shape]);
  return new Map([
    ['model.embed_tokens.weight', [CONFIG.vocab_size, hidden]],
    ...Array.from({ length: CONFIG.num_hidden_layers }, (_, index) => layer(index)).flat(),
    ['model.norm.weight', [hidden]],
  ]);
}

const BLOCK = 2 ** 20;

/** Writes the weights tensor by tensor, from one block of random numbers. */
async function make(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const rng = createRng(0);
  const upper = (value: number): number => (new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0) >>> 16;
  const drawn = Uint16Array.from({ length: BLOCK }, () => upper(0.04 * (rng.uniform() - 0.5)));
  const ones = new Uint16Array(BLOCK).fill(upper(1));
  let end = 0;
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  for (const [name, shape] of shapes()) {
    const bytes = 2 * shape.reduce((product, dim) => product * dim);
    header[name] = { dtype: 'BF16', shape, data_offsets: [end, (end += bytes)] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = await open(join(folder, 'model.safetensors'), 'w');
  await file.writeFile(Buffer.concat([length, text]));
  for (const [, shape] of shapes()) {
    const from = shape.length === 1 ? ones : drawn;
    for (let left = shape.reduce((product, dim) => product * dim); left > 0; left -= BLOCK) {
      await file.writeFile(new Uint8Array(from.buffer, 0, 2 * Math.min(left, BLOCK)));
    }
  }
  await file.close();
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(TOKENIZER));
  await writeFile(join(folder, 'config.json'), JSON.stringify(CONFIG));
}

/** Returns this process's peak resident memory, in MB. */
function peakMegabytes(): number {
  return process.resourceUsage().maxRSS / 1024;
}

/** Returns this process's current resident memory in MB, after a garbage collection if --expose-gc was given. */
function residentMegabytes(): number {
  (globalThis as { readonly gc?: () => void }).gc?.();
  return process.memoryUsage().rss / 2 ** 20;
}

const [ROWS, TOKENS] = [4, 128];

function data(): TrainingData {
  const rng = createRng(1);
  const shape = [ROWS, TOKENS];
  const ids = hostIntegers(
    Int32Array.from({ length: ROWS * TOKENS }, () => rng.integer(CONFIG.vocab_size)),
    shape,
  );
  const batch: Batch = {
    inputs: { inputIds: ids, attentionMask: hostTensor(new Float32Array(ROWS * TOKENS).fill(1), shape) },
    labels: ids,
    rowWeights: hostTensor(new Float32Array(ROWS).fill(1), [ROWS]),
    rows: [0, 1, 2, 3],
  };
  return { kind: 'causal-lm', epoch: () => [batch], batchesPerEpoch: 1 };
}

/** Loads the model, takes these steps, and prints time and memory. */
async function measure(folder: string, dtype: WeightDtype, steps: number): Promise<void> {
  const start = performance.now();
  const model = await fromPretrained(folder, { task: 'causal-lm', dtype });
  const loaded = (performance.now() - start) / 1000;
  const held = Object.values(model.weights)
    .flatMap((weight) => (isQuantized(weight) ? Object.values({ ...weight.parts }) : [weight]))
    .reduce((sum, { data }) => sum + data.byteLength, 0);
  const said = {
    dtype,
    heldMegabytes: held / 2 ** 20,
    loadSeconds: loaded,
    loadPeakMegabytes: peakMegabytes(),
    loadedMegabytes: residentMegabytes(),
  };
  if (steps === 0) return void process.stdout.write(`${JSON.stringify(said)}\n`);
  const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }));
  const times: number[] = [];
  let last = performance.now();
  await train(peft, data(), {
    epochs: steps,
    learningRate: 1e-4,
    executor: compiled(),
    onStep() {
      times.push((performance.now() - last) / 1000);
      last = performance.now();
    },
  });
  process.stdout.write(`${JSON.stringify({ ...said, stepPeakMegabytes: peakMegabytes(), stepSeconds: times })}\n`);
}

const [folder, dtype, steps = '0'] = process.argv.slice(2);
if (folder === undefined) throw new ConfigError('expected the folder of the checkpoint', 'folder');
if (dtype === 'fp32' || dtype === 'q8' || dtype === 'q4') await measure(folder, dtype, Number(steps));
else {
  if (!existsSync(join(folder, 'config.json'))) await make(folder);
  for (const [own, count] of [
    ['fp32', '0'],
    ['q8', '0'],
    ['q4', '0'],
    ['fp32', '3'],
    ['q8', '3'],
    ['q4', '3'],
  ] as const) {
    const line = [...process.execArgv, '--expose-gc', fileURLToPath(import.meta.url), folder, own, count];
    spawnSync(process.execPath, line, { stdio: ['ignore', 'inherit', 'inherit'] });
  }
}
