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
/** The runs on conversations, and the steps of each from one evaluation to the next. */
const RUNS = [
  { size: 96, every: 4 },
  { size: 800, every: 25 },
];
const LENGTHS = [128, 512, 1024, 2048];
/** Conversations with a tool that are learnt, and words that are asked for afterwards. */
const [WITH_TOOL, ASKED] = [104, 12];
const STEPS_AFTER_FIRST = 2;

const executor = compiled();
const machine: Machine = { cpu: processorName(), load: loadavg()[0] as number, node: process.versions.node };
const commands = { conversations, lengths, length: oneLength, tools };
await commands[positionals[0] as keyof typeof commands]();

/** Held-out perplexity while conversations are learnt, and answers before and after the last run. */
async function conversations(): Promise<void> {
  const [model, task] = [await opened(), await readTask()];
  const heldOut = evaluationOf(model, task.dev);
  let peft = adapted(model);
  const { perplexity: untrained = NaN } = await evaluate(peft, heldOut, { executor });
  const points: Point[] = [{ conversations: 0, perplexity: untrained }];
  const before = await answersOf(peft);
  const started = cpuSecondsNow();
  for (const { size, every } of RUNS) {
    peft = adapted(model);
    await learnt(peft, await spreadOver(task.train, size), {
      schedule: 'constant', // each point is what a run of that many conversations ends with
      selection: { data: heldOut, evaluations: 1 },
      evaluateEvery: every,
      onEvaluation({ step, metrics }) {
        points.push({ conversations: step * BATCH, perplexity: metrics['perplexity'] as number });
        process.stderr.write(`${JSON.stringify(points.at(-1))}\n`);
      },
    });
  }
  const cpuSeconds = cpuSecondsNow() - started;
  const answers = { before, after: await answersOf(peft) };
  await written('conversations.json', { machine, points, cpuSeconds, prompts: PROMPTS, answers });
}

/** Memory and time by the number of tokens in a row, each in a process of its own. */
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
    executor,
    epochs: 1,
    learningRate: LEARNING_RATE,
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
  const heldOut = evaluationOf(model, dev, template);
  const runs: ToolRun[] = [];
  const peft = adapted(model);
  for (const count of [0, WITH_TOOL]) {
    if (count > 0) await learnt(peft, set, {}, template);
    const { perplexity = NaN } = await evaluate(peft, heldOut, { executor });
    const asked = await askedOf(peft, dev.rows.slice(0, ASKED) as readonly ChatRow[]);
    runs.push({ conversations: count, perplexity, ...asked });
    process.stderr.write(`${JSON.stringify(runs.at(-1))}\n`);
  }
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

function evaluationOf({ tokenizer }: PretrainedModel, set: LanguageSet, own?: ChatTemplate) {
  const maxTokens = own ? 2 * MAX_TOKENS : MAX_TOKENS;
  return causalEvaluation(encodeLanguage(set, tokenizer, { maxTokens, template: own }), { batchSize: BATCH });
}

/** Trains on one pass over the rows. */
async function learnt(
  peft: PeftModel,
  set: LanguageSet,
  options: Partial<TrainOptions>,
  own?: ChatTemplate,
): Promise<void> {
  const maxTokens = own ? 2 * MAX_TOKENS : MAX_TOKENS;
  const data = encodeLanguage(set, (peft.model as PretrainedModel).tokenizer, { maxTokens, template: own });
  await train(peft, trainingData(data, { batchSize: BATCH, seed: 1 }), {
    executor,
    epochs: 1,
    learningRate: LEARNING_RATE,
    onStep: ({ step, loss }) => process.stderr.write(`${step} ${loss.toFixed(3)}\n`),
    ...options,
  });
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
