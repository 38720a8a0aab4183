/*
 * Compares the logits of models and adapters in GGUF files with those of llama.cpp, which is the judge of what is
 * written and read: of the base model, of the base model with an adapter, and of the merged model in each dtype.
 *
 *     mkdir judge && (cd judge && npm init -y && npm install --ignore-scripts node-llama-cpp@3.22.1)
 *     npx tsx --conditions @peftjs/source tools/llama-cpp/compare.ts --judge judge [--model file.gguf ..]
 *         [--python venv/bin/python] [--results file.json]
 *
 * Without --model, these are the small random models of tests/models/fixtures/gguf. With --python, an interpreter with
 * transformers and PEFT, PEFT itself makes the adapters, and its logits are compared too.
 *
 * llama.cpp multiplies float16 and 8-bit weights with activations rounded to the same, so only the rows in float32 are
 * as near as two float32 computations can be.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import {
  attach,
  diskStorage,
  hostTensor,
  loadPretrained,
  PeftError,
  predict,
  withAdapter,
  type Batch,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { createRng, hostIntegers } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, generate, saveGguf, saveGgufAdapter, saveMerged, type PretrainedModel } from '@peftjs/models';
import { drawnValues } from '../../tests/peft/adapters.js';
import { llamaCpp, type LlamaCpp } from './llama.js';

const { values: flags } = parseArgs({
  options: {
    judge: { type: 'string' },
    model: { type: 'string', multiple: true },
    python: { type: 'string' },
    results: { type: 'string' },
  },
});
if (flags.judge === undefined) throw new RangeError('expected --judge DIR, where node-llama-cpp is installed');

/** Two computations of the same logits. */
interface Comparison {
  readonly model: string;
  /** What llama.cpp computed. */
  readonly what: string;
  /** What it is compared with. */
  readonly with: string;
  /** ||a - b|| / ||b|| of the logits. */
  readonly distance: number;
  /** The largest difference of a logarithm of a probability. */
  readonly largest: number;
  /** At how many of the tokens the most likely next token is the same. */
  readonly sameNext: string;
  /** How many tokens of a greedy text of peftjs llama.cpp chooses too, and how near the first other one is. */
  readonly greedy?: string;
}

/** The most tokens of a text: less than the context of every model here, because llama.cpp shifts a full one. */
const LONGEST = 48;

const TEXT = `The heron stood at the edge of the pond for 17 minutes, and didn't move. "What's it waiting for?" she asked.`;

/** The lengths of a prompt and of its continuation. */
const [PROMPT, CONTINUATION] = [8, 32];

const fixtures = fileURLToPath(new URL('../../tests/models/fixtures/gguf', import.meta.url));
const executor = compiled({ threads: 1 });
const llama = await llamaCpp(flags.judge);
const folder = await mkdtemp(join(tmpdir(), 'peftjs-llama-cpp-'));
const models = flags.model ?? (await readdir(fixtures)).map((name) => join(fixtures, name));
const comparisons: Comparison[] = [];
try {
  for (const model of models) comparisons.push(...(await compared(model)));
} finally {
  await rm(folder, { recursive: true });
}
console.table(comparisons.map((each) => ({ ...each, distance: shown(each.distance), largest: shown(each.largest) })));
if (flags.results !== undefined) {
  const versions = { 'node-llama-cpp': await versionIn(flags.judge), 'llama.cpp': llama.release };
  await writeFile(flags.results, `${JSON.stringify({ versions, comparisons }, null, 2)}\n`);
}

async function compared(path: string): Promise<Comparison[]> {
  const name = basename(path, '.gguf');
  const model = await fromPretrained(path, { task: 'causal-lm' });
  const ids = await idsOf(model, path, llama);
  const own = await logitsOf(model, ids);
  const files = (what: string): string => join(folder, `${name}-${what}.gguf`);
  const rows: Comparison[] = [];
  const add = async (
    what: string,
    file: string,
    expected: Logits,
    { adapter, greedy }: { readonly adapter?: string; readonly greedy?: Model | PeftModel } = {},
  ): Promise<void> => {
    const found = await llama.logits(file, ids, adapter);
    const texts = greedy && {
      greedy: await sameText(greedy, ids.slice(0, PROMPT), (all) => llama.logits(file, all, adapter)),
    };
    rows.push({ model: name, what, with: expected.of, ...distances(found, expected.values, ids.length), ...texts });
    console.log(name, what, expected.of, shown(rows.at(-1)?.distance ?? NaN));
  };
  await add('the file', path, { of: 'peftjs', values: own });
  await saveGguf(model, files('fp32'), { dtype: 'fp32' });
  await add('written in fp32', files('fp32'), { of: 'peftjs', values: own }, { greedy: model });
  await saveMerged(model, join(folder, name, 'model'));
  const ofFolder = await fromPretrained(join(folder, name, 'model'), { task: 'causal-lm' });
  await saveGguf(ofFolder, files('of-a-folder'), { dtype: 'fp32' });
  await idsOf(model, files('of-a-folder'), llama); // throws for other tokens
  await add('written from a folder', files('of-a-folder'), { of: 'peftjs', values: own });
  const { peft, of, logits } = flags.python === undefined ? drawn(model) : await fromPeft(model, ids, flags.python);
  const adapted = { of: 'peftjs', values: await logitsOf(peft, ids) };
  await saveGgufAdapter(peft, files('adapter'));
  const adapter = files('adapter');
  await add('with the adapter', files('fp32'), adapted, { adapter, greedy: peft });
  if (logits) await add('with the adapter', files('fp32'), { of, values: logits }, { adapter });
  for (const dtype of ['fp32', 'fp16', 'q8'] as const) {
    await saveGguf(peft, files(`merged-${dtype}`), { dtype });
    await add(`merged in ${dtype}`, files(`merged-${dtype}`), adapted);
  }
  rows.push({
    model: name,
    what: 'the effect of the adapter',
    with: 'peftjs',
    ...distances(own, adapted.values, ids.length),
  });
  return rows;
}

interface Logits {
  /** Who computed them. */
  readonly of: string;
  readonly values: Float32Array;
}

/** Returns the tokens of a text; random ones for a model whose vocabulary is too small for a text. */
async function idsOf(model: PretrainedModel, path: string, judge: LlamaCpp): Promise<readonly number[]> {
  const words = model.outputs ?? 0;
  if (words < 256) {
    const rng = createRng(1);
    return Array.from({ length: 40 }, () => 3 + Math.floor((words - 3) * rng.uniform()));
  }
  const own = model.tokenizer.tokenIds(TEXT);
  const theirs = await judge.tokenIds(path, TEXT);
  if (own.join() === theirs.join()) return own.slice(0, LONGEST);
  throw new PeftError('PEFT_LLAMA_CPP', `${path}: tokens ${own.join()}, in llama.cpp ${theirs.join()}`, { path });
}

interface Adapted {
  readonly peft: PeftModel;
  readonly of: string;
  readonly logits?: Float32Array;
}

/** An adapter with modules of different ranks and alphas. */
function drawn(model: Model): Adapted {
  const peft = attach(
    model,
    lora({
      r: 4,
      targetModules: 'all-linear',
      rankPattern: { 'q_proj|c_attn': 8 },
      alphaPattern: { 'v_proj|c_fc': 3 },
      useRslora: true,
    }),
  );
  return { peft: withAdapter(peft, { values: drawnValues(peft) }), of: 'peftjs' };
}

/** An adapter that PEFT made for the model's folder and saved, with the logits of transformers. */
async function fromPeft(model: PretrainedModel, ids: readonly number[], python: string): Promise<Adapted> {
  const own = join(folder, basename(model.name, '.gguf'));
  const script = fileURLToPath(new URL('peft_adapter.py', import.meta.url));
  await promisify(execFile)(python, [script, own, JSON.stringify(ids)]);
  const bytes = await readFile(join(own, 'logits.f32'));
  const logits = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const peft = await loadPretrained(model, join(own, 'adapter'), { storage: diskStorage(), methods: [lora] });
  return { peft, of: 'PEFT', logits };
}

async function logitsOf(model: Model | PeftModel, ids: readonly number[]): Promise<Float32Array> {
  const shape = [1, ids.length];
  const batch: Batch = {
    inputs: {
      inputIds: hostIntegers(Int32Array.from(ids), shape),
      attentionMask: hostTensor(new Float32Array(ids.length).fill(1), shape),
    },
    labels: hostIntegers(Int32Array.of(0), [1]),
    rowWeights: hostTensor(Float32Array.of(1), [1]),
    rows: [0],
  };
  const [logits] = await predict(model, [batch], { executor });
  return Float32Array.from(logits ?? []);
}

/** Compares a greedy text with what llama.cpp would choose after each of its tokens. */
async function sameText(
  model: Model | PeftModel,
  prompt: readonly number[],
  logitsOfAll: (ids: readonly number[]) => Promise<Float32Array>,
): Promise<string> {
  const [written] = await generate(model, [prompt], { executor, maxNewTokens: CONTINUATION, eosTokenId: [] });
  const next = written?.ids ?? [];
  const ids = [...prompt, ...next];
  const logits = await logitsOfAll(ids);
  const words = logits.length / ids.length;
  for (const [index, id] of next.entries()) {
    const at = (prompt.length + index - 1) * words;
    const own = logits.subarray(at, at + words);
    const most = Math.max(...own);
    if (own[id] === most) continue;
    return `${index} of ${next.length}, then ${shown(most - (own[id] as number))} below the largest`;
  }
  return `${next.length} of ${next.length}`;
}

/** Compares logits [tokens * words]. */
function distances(a: Float32Array, b: Float32Array, tokens: number): Omit<Comparison, 'model' | 'what' | 'with'> {
  if (a.length !== b.length) throw new RangeError(`${a.length} logits, expected ${b.length}`);
  const words = b.length / tokens;
  let [largest, same] = [0, 0];
  for (let token = 0; token < tokens; token++) {
    const [own, other] = [a, b].map((all) => logProbabilities(all.subarray(token * words, (token + 1) * words))) as [
      Float64Array,
      Float64Array,
    ];
    own.forEach((value, word) => (largest = Math.max(largest, Math.abs(value - (other[word] as number)))));
    if (own.indexOf(Math.max(...own)) === other.indexOf(Math.max(...other))) same++;
  }
  return { distance: relativeDistance(a, b), largest, sameNext: `${same} of ${tokens}` };
}

function logProbabilities(logits: Float32Array): Float64Array {
  const most = Math.max(...logits);
  const sum = Math.log(logits.reduce((total, value) => total + Math.exp(value - most), 0));
  return Float64Array.from(logits, (value) => value - most - sum);
}

function shown(value: number): string {
  return value.toExponential(1);
}

async function versionIn(judge: string): Promise<string> {
  const manifest = await readFile(join(judge, 'node_modules/node-llama-cpp/package.json'), 'utf8');
  return (JSON.parse(manifest) as { readonly version: string }).version;
}
