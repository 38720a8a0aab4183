/* The tables and charts of chat.ts. */
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { markdownTable, writeInto } from '../perf-peer/tables.js';
import { lineChart } from './line-chart.js';

/** What a measurement ran on. */
export interface Machine {
  /** The model of the processor. */
  readonly cpu: string;
  /** The load of the machine before it. */
  readonly load: number;
  /** The version of Node. */
  readonly node: string;
}

/** Held-out perplexity after some conversations. */
export interface Point {
  readonly conversations: number;
  readonly perplexity: number;
}

/** The content of conversations.json. */
interface ConversationResults {
  readonly machine: Machine;
  readonly points: readonly Point[];
  /** The processor time of training, evaluations included. */
  readonly cpuSeconds: number;
  readonly prompts: readonly string[];
  readonly answers: Readonly<Record<'before' | 'after', readonly string[]>>;
}

/** Training on one row of a length. */
export interface LengthRun {
  readonly tokens: number;
  /** Whether layers are computed again in the backward pass. */
  readonly checkpointing: boolean;
  readonly peakRssBytes: number;
  readonly stepSeconds: number;
  /** The processor time of a step, of all threads. */
  readonly stepCpuSeconds: number;
}

/** The content of lengths.json. */
interface LengthResults {
  readonly machine: Machine;
  readonly runs: readonly LengthRun[];
}

/** What a model does with a tool after some conversations that use it. */
export interface ToolRun {
  /** The number of conversations learnt. */
  readonly conversations: number;
  /** The number of calls that are as they should be. */
  readonly called: number;
  /** The number of answers that are as they should be, after the tool's result. */
  readonly repeated: number;
  /** A question, the first answer and the answer after the tool's result. */
  readonly sample: readonly string[];
}

/** The content of tools.json. */
interface ToolResults {
  readonly machine: Machine;
  readonly runs: readonly ToolRun[];
  /** The number of words that were asked for. */
  readonly asked: number;
}

/** Writes the tables of all results below a folder into the page, and the charts next to the results. */
export async function writeChatTables(folder: string, page: string): Promise<void> {
  const read = async <T>(name: string): Promise<T | undefined> => {
    const file = join(folder, name);
    return existsSync(file) ? (JSON.parse(await readFile(file, 'utf8')) as T) : undefined;
  };
  const conversations = await read<ConversationResults>('conversations.json');
  if (conversations) {
    await writeInto(page, { conversations: pointTable(conversations), answers: answerTable(conversations) });
  }
  const lengths = await read<LengthResults>('lengths.json');
  if (lengths) {
    await writeInto(page, { lengths: lengthTable(lengths) });
    await writeFile(join(folder, 'memory.svg'), memoryChart(lengths));
  }
  const tools = await read<ToolResults>('tools.json');
  if (tools) await writeInto(page, { tools: toolTable(tools) });
}

function pointTable({ points, machine, cpuSeconds }: ConversationResults): string {
  const head = ['conversations', ...points.map(({ conversations }) => String(conversations))];
  const table = markdownTable(head, [
    ['held-out perplexity', ...points.map(({ perplexity }) => perplexity.toFixed(1))],
  ]);
  const minutes = `${(cpuSeconds / 60).toFixed(0)} minutes of processor time, evaluations included`;
  return [table, `${minutes}. ${stateOf(machine)}`].join('\n\n');
}

function answerTable({ prompts, answers }: ConversationResults): string {
  const rows = prompts.map((prompt, at) => [
    prompt,
    oneLine(answers.before[at] ?? ''),
    oneLine(answers.after[at] ?? ''),
  ]);
  return markdownTable(['asked', 'before', 'after'], rows).replace('| --- | --: | --: |', '| --- | --- | --- |');
}

function lengthTable({ runs, machine }: LengthResults): string {
  const lengths = [...new Set(runs.map(({ tokens }) => tokens))];
  const rows = lengths.map((tokens) => [
    tokens.toLocaleString('en'),
    ...[false, true].flatMap((checkpointing) => {
      const run = runs.find((each) => each.tokens === tokens && each.checkpointing === checkpointing);
      return run ? [`${(run.peakRssBytes / 1e9).toFixed(2)} GB`, `${run.stepCpuSeconds.toFixed(1)} s`] : ['', ''];
    }),
  ]);
  const head = ['peak memory', 'processor time of a step'];
  const table = markdownTable(['tokens', ...head, ...head.map((name) => `${name}, recomputed`)], rows);
  return [table, stateOf(machine)].join('\n\n');
}

function toolTable({ runs, asked, machine }: ToolResults): string {
  const rows = runs.map(({ conversations, called, repeated }) => [
    String(conversations),
    `${called} of ${asked}`,
    `${repeated} of ${asked}`,
  ]);
  const table = markdownTable(['conversations', 'right calls', 'right answers'], rows);
  const last = runs.at(-1)?.sample ?? [];
  const said = ['asked', 'first answer', 'after the result'].map((who, at) => [who, oneLine(last[at] ?? '')]);
  const sample = markdownTable(['', 'the first held-out word'], said).replace('--:', '---');
  return [table, sample, stateOf(machine)].join('\n\n');
}

function stateOf({ cpu, load, node }: Machine): string {
  return `Processor: ${cpu}, 2 threads. Node ${node}. Load of the machine before: ${load.toFixed(1)}.`;
}

/** Returns a text for a cell of a table. */
function oneLine(text: string): string {
  return text
    .replace(/\s+/g, ' ')
    .replaceAll('|', '\\|')
    .replace(/[<>]/g, (sign) => (sign === '<' ? '&lt;' : '&gt;'))
    .trim();
}

function memoryChart({ runs }: LengthResults): string {
  const line = (label: string, checkpointing: boolean) => ({
    label,
    points: runs
      .filter((run) => run.checkpointing === checkpointing)
      .map(({ tokens, peakRssBytes }) => [tokens, peakRssBytes / 1e9] as const),
  });
  return lineChart({
    x: 'tokens in the row',
    y: 'peak memory, GB',
    lines: [line('kept', false), line('recomputed', true)],
    shown: (value) => value.toFixed(1),
  });
}
