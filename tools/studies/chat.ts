/*
 * Measures what the guide to chat models reports (docs/guides/chat.md), one command for each of its tables:
 *
 *   npx tsx --conditions @peftjs/source tools/studies/chat.ts conversations --model model.gguf --data data
 *   npx tsx --conditions @peftjs/source tools/studies/chat.ts lengths --model model.gguf --data data
 *   npx tsx --conditions @peftjs/source tools/studies/chat.ts tools --model model.gguf --data data
 *
 * `data` is what `ROWS=915 npx tsx wordnet.ts` of the guide writes: 800 conversations, and 115 that are held out. Each
 * command writes its results below --results, and the tables and charts of all results into the page.
 */
import { attach, diskStorage, evaluate, train, type Model, type PeftModel, type TrainOptions } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, generateChat, type PretrainedModel } from '@peftjs/models';
import {
  causalEvaluation,
  encodeLanguage,
  languageSet,
  readLanguageTask,
  trainingData,
  type ChatRow,
  type ChatTemplate,
  type LanguageSet,
  type LanguageTask,
} from '@peftjs/tasks';
import { mkdir, writeFile } from 'node:fs/promises';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from 'simple-statistics';
import { callIn, conversation, template, type Message } from '../../examples/dictionary-tool.js';
import { printedBy, processorName } from '../perf/own-process.js';
import { writeChatTables, type LengthRun, type Machine, type Point, type ToolRun } from './chat-tables.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string', default: 'SmolLM2-135M-Instruct.Q4_1.gguf' },
    data: { type: 'string', default: 'data' },
    results: { type: 'string', default: 'docs/benchmarks/results/chat' },
    page: { type: 'string', default: 'docs/guides/chat.md' },
    tokens: { type: 'string', default: '128' },
    checkpointing: { type: 'boolean', default: false },
  },
});

/** The settings of examples/chat.ts. */
const [BATCH, MAX_TOKENS, LEARNING_RATE] = [8, 128, 5e-4];
const PROMPTS = ['What does "heron" mean?', 'What does "trowel" mean?', 'What is the capital of France?'];
/** Steps from one evaluation to the next: 200 conversations. */
const EVALUATE_EVERY = 25;
const LENGTHS = [128, 512, 1024, 2048];
/** Conversations with a tool that are learnt, and words that are asked for afterwards. */
const [WITH_TOOL, ASKED] = [80, 12];
const STEPS_AFTER_FIRST = 2;

const executor = compiled();
const TRAINING: TrainOptions = {
  executor,
  epochs: 1,
  learningRate: LEARNING_RATE,
  onStep: ({ step, totalSteps, loss }) => process.stderr.write(`${step}/${totalSteps} loss ${loss.toFixed(3)}\n`),
};
const machine: Machine = { cpu: processorName(), load: loadavg()[0] as number, node: process.versions.node };
const commands = { conversations, lengths, length: oneLength, tools };
await commands[positionals[0] as keyof typeof commands]();

/** Held-out perplexity while the conversations are learnt, and answers before and after. */
async function conversations(): Promise<void> {
  const [model, task] = [await opened(), await readTask()];
  const heldOut = causalEvaluation(encodeLanguage(task.dev, model.tokenizer, { maxTokens: MAX_TOKENS }), {
    batchSize: BATCH,
  });
  const peft = adapted(model);
  const { perplexity: untrained = NaN } = await evaluate(peft, heldOut, { executor });
  const points: Point[] = [{ conversations: 0, perplexity: untrained }];
  const before = await answersOf(peft);
  const started = cpuSecondsNow();
  await train(peft, batchesOf(model, task.train, BATCH), {
    ...TRAINING,
    schedule: 'constant', // each point is what a run of that many conversations ends with
    selection: { data: heldOut, evaluations: 1 },
    evaluateEvery: EVALUATE_EVERY,
    onEvaluation({ step, metrics }) {
      points.push({ conversations: step * BATCH, perplexity: metrics['perplexity'] as number });
    },
  });
  const cpuSeconds = cpuSecondsNow() - started;
  const answers = { before, after: await answersOf(peft) };
  await written('conversations.json', { machine, points, cpuSeconds, prompts: PROMPTS, answers });
}

/** Memory and time for each row length. Every measurement runs in a separate process. */
async function lengths(): Promise<void> {
  const runs: LengthRun[] = [];
  for (const tokens of LENGTHS) {
    for (const checkpointing of [false, true]) {
      const given = ['length', '--model', flags.model, '--data', flags.data, '--tokens', String(tokens)];
      const own = [...given, ...(checkpointing ? ['--checkpointing'] : [])];
      const script = fileURLToPath(import.meta.url);
      const printed = await printedBy(process.execPath, [...process.execArgv, script, ...own]);
      runs.push(JSON.parse(printed) as LengthRun);
      process.stderr.write(printed);
    }
  }
  await written('lengths.json', { machine, runs });
}

/** Trains on one row of some length, in 8 bits, and prints what it took. */
async function oneLength(): Promise<void> {
  const [tokens, { train: set }] = [Number(flags.tokens), await readTask()];
  const model = await opened();
  const messages = (set.rows as readonly ChatRow[]).flatMap((row) => row.messages);
  const long = await languageSet('long', [{ messages }]); // one conversation of many turns, cut
  const data = encodeLanguage(long, model.tokenizer, { maxTokens: tokens });
  const repeated = { ...data, rows: Array.from({ length: 1 + STEPS_AFTER_FIRST }, () => data.rows[0] as never) };
  const [ends, cpu]: [number[], number[]] = [[], []];
  await train(adapted(model), trainingData(repeated, { batchSize: 1, seed: 1 }), {
    ...TRAINING,
    gradientCheckpointing: flags.checkpointing,
    onStep() {
      ends.push(performance.now() / 1000);
      cpu.push(cpuSecondsNow());
    },
  });
  const steps = (times: readonly number[]): number =>
    median(times.slice(1).map((end, index) => end - (times[index] as number)));
  const run: LengthRun = {
    tokens,
    checkpointing: flags.checkpointing,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    stepSeconds: steps(ends),
    stepCpuSeconds: steps(cpu),
  };
  process.stdout.write(`${JSON.stringify(run)}\n`);
}

/** Teaches calls of a tool, and asks for words that are held out. */
async function tools(): Promise<void> {
  const [model, task] = [await opened(), await readTask()];
  const [set, dev] = [await withTool(await spreadOver(task.train, WITH_TOOL)), await withTool(task.dev)];
  const asked = dev.rows.slice(0, ASKED) as readonly ChatRow[];
  const peft = adapted(model);
  const runs: ToolRun[] = [{ conversations: 0, ...(await askedOf(peft, asked)) }];
  await train(peft, batchesOf(model, set, 2, template), { ...TRAINING, learningRate: 2 * LEARNING_RATE });
  runs.push({ conversations: WITH_TOOL, ...(await askedOf(peft, asked)) });
  await written('tools.json', { machine, runs, asked: ASKED });
}

/** Counts the calls that name the tool and the word, and the answers that repeat what the tool found. */
async function askedOf(
  model: PeftModel,
  rows: readonly ChatRow[],
): Promise<Pick<ToolRun, 'called' | 'repeated' | 'sample'>> {
  let [called, repeated] = [0, 0];
  const sample: string[] = [];
  for (const { messages, tools: offered } of rows) {
    const [question, asked, result, answer] = messages as unknown as [Message, Message, Message, Message];
    const options = { executor, template, tools: offered, maxNewTokens: 60 };
    const first = await generateChat(model, [question], options);
    const call = callIn(first.content);
    if (JSON.stringify(call) === JSON.stringify(asked.tool_calls?.[0])) called++;
    const second = await generateChat(model, [question, asked, result], options);
    if (second.content.trim() === answer.content) repeated++;
    if (sample.length === 0) sample.push(question.content ?? '', first.content, second.content);
  }
  return { called, repeated, sample };
}

async function withTool({ name, rows }: LanguageSet): Promise<LanguageSet> {
  const pairs = (rows as readonly ChatRow[]).map(({ messages: [question, answer] }) => [
    /"(.*)"/.exec(question?.content ?? '')?.[1] ?? '',
    (answer?.content ?? '').slice(0, -1),
  ]);
  return languageSet(
    name,
    pairs.map(([word = '', definition = '']) => conversation(word, definition)),
  );
}

function opened(): Promise<PretrainedModel> {
  return fromPretrained(flags.model, { task: 'causal-lm', dtype: 'q8' });
}

function adapted(model: Model): PeftModel {
  return attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
}

function readTask(): Promise<LanguageTask> {
  const [train, dev] = ['train', 'dev'].map((part) => join(flags.data, `chat-${part}.jsonl`)) as [string, string];
  return readLanguageTask({ train, dev, storage: diskStorage() });
}

/** Returns `size` rows, evenly from all. */
async function spreadOver({ name, rows }: LanguageSet, size: number): Promise<LanguageSet> {
  const step = rows.length / size;
  const own = Array.from({ length: size }, (_, index) => rows[Math.floor(index * step)] as ChatRow);
  return languageSet(name, own);
}

/** Returns one pass over the rows in batches. */
function batchesOf({ tokenizer }: PretrainedModel, set: LanguageSet, batchSize: number, own?: ChatTemplate) {
  const data = encodeLanguage(set, tokenizer, { maxTokens: own ? 512 : MAX_TOKENS, template: own });
  return trainingData(data, { batchSize, seed: 1 });
}

async function answersOf(model: PeftModel): Promise<string[]> {
  const answers: string[] = [];
  for (const content of PROMPTS) {
    const answer = await generateChat(model, [{ role: 'user', content }], { executor, maxNewTokens: 40 });
    answers.push(answer.content);
  }
  return answers;
}

function cpuSecondsNow(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

async function written(name: string, results: object): Promise<void> {
  await mkdir(flags.results, { recursive: true });
  await writeFile(join(flags.results, name), `${JSON.stringify(results, null, 2)}\n`);
  await writeChatTables(flags.results, flags.page);
}
