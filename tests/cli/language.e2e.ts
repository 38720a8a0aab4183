import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { diskStorage, evaluate, loadPretrained, type Model, type PeftModel } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { causalEvaluation, encodeLanguage, readLanguageTask, type LanguageSet } from '@peftjs/tasks';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import type { Ended } from './command.js';
import { peftBench } from './in-process.js';
import { counting, END, writeDecoder } from './decoder.js';

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  await writeDecoder(at('gpt2'), 'gpt2');
  await writeDecoder(at('llama'), 'llama');
  await writeFile(at('notes.txt'), counting(40).join('\n'));
  await writeFile(at('notes-dev.txt'), counting(12, 3).join('\n'));
  await writeFile(at('sums.jsonl'), sums(48));
  await writeFile(at('sums-dev.jsonl'), sums(9, 2));
});

/** Instructions with answers. */
function sums(rows: number, shift = 0): string {
  const row = (index: number): object => {
    const number = (index + shift) % 9;
    return { prompt: `${number} + 1 =`, completion: ` ${number + 1}` };
  };
  return Array.from({ length: rows }, (_, index) => JSON.stringify(row(index))).join('\n');
}

interface Result {
  readonly id: string;
  readonly method: string;
  readonly task: string;
  readonly status: string;
  readonly budget: { requested: number | null; met: boolean };
  readonly parameters: { trainableAtStart: number; stored: number; base: number };
  readonly metrics: { perplexity: number; meanLogLikelihood: number };
  readonly selection: { step: number; metric: string; lowerIsBetter?: boolean };
  readonly history: readonly { step: number; metrics?: { perplexity: number } }[];
  readonly protocol: { data: { rows: Record<string, number> } };
}

const resultsOf = ({ stdout }: Ended): Result[] =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Result);

/** Runs `peft-bench run`, which must succeed, and returns its results. */
async function run(out: string, ...flags: string[]): Promise<Result[]> {
  const ended = await peftBench(['run', '--json', '--seeds', '1', ...flags, '--out', at(out)]);
  expect(ended.code, ended.stderr).toBe(0);
  return resultsOf(ended);
}

describe('peft-bench run on texts', () => {
  const methods = 'head,lora,adalora,sora,bitfit,houlsby,pfeiffer,ia3,full';
  let results: Result[] = [];
  beforeAll(async () => {
    const files = ['--train', at('notes.txt'), '--dev', at('notes-dev.txt')];
    const flags = ['--budget', 'r=4', '--max-tokens', '32', '--epochs', '3', '--learning-rate', '0.004'];
    results = await run('notes', '--model', at('gpt2'), ...files, '--method', methods, ...flags);
  });
  const resultOf = (method: string): Result =>
    results.find((result) => result.method === method) ?? expect.fail(`no result of ${method}`);

  it('trains every method on the next token, and scores it by perplexity, where lower is better', () => {
    expect(results.map(({ method }) => method).sort()).toEqual(methods.split(',').sort());
    for (const { method, metrics, selection } of results) {
      expect(selection, method).toMatchObject({ metric: 'perplexity', lowerIsBetter: true });
      expect(metrics.perplexity, method).toBeCloseTo(Math.exp(-metrics.meanLogLikelihood), 3);
    }
    for (const method of ['lora', 'adalora', 'sora']) expect(resultOf(method).budget.met, method).toBe(true);
    expect(resultOf('full').metrics.perplexity).toBeLessThan(0.5 * resultOf('head').metrics.perplexity);
  });

  it('has the untrained model as a baseline, since its head is frozen', () => {
    const { parameters, selection, history } = resultOf('head');
    expect([parameters.trainableAtStart, parameters.stored, selection.step, history.length]).toEqual([0, 0, 0, 0]);
    const base = resultOf('head').metrics.perplexity;
    for (const method of ['lora', 'sora', 'bitfit', 'ia3'])
      expect(resultOf(method).metrics.perplexity, method).toBeLessThan(base);
  });

  it('selects the checkpoint with the lowest perplexity', () => {
    for (const method of ['lora', 'houlsby', 'full']) {
      const { history, selection } = resultOf(method);
      const judged = history.flatMap(({ step, metrics }) =>
        metrics ? [{ step, perplexity: metrics.perplexity }] : [],
      );
      expect(judged, method).toHaveLength(3);
      const best = judged.reduce((least, one) => (one.perplexity < least.perplexity ? one : least));
      expect(selection.step, method).toBe(best.step);
    }
  });

  it('ranks the lowest perplexity first, and says that lower is better', async () => {
    const { rows } = JSON.parse(await readFile(at('notes/summary.json'), 'utf8')) as {
      rows: {
        method: string;
        rank: number | null;
        score: { mean: number };
        lowerIsBetter: boolean;
        difference: { mean: number } | null;
      }[];
    };
    const ranked = rows.filter(({ rank }) => rank !== null);
    expect(ranked.map(({ rank }) => rank)).toEqual(ranked.map((_, index) => index + 1));
    const means = ranked.map(({ score }) => score.mean);
    expect(means).toEqual([...means].sort((a, b) => a - b));
    expect(rows.every(({ lowerIsBetter }) => lowerIsBetter)).toBe(true);
    const sora = rows.find(({ method }) => method === 'sora');
    expect(sora?.difference?.mean).toBeCloseTo(
      resultOf('sora').metrics.perplexity - resultOf('lora').metrics.perplexity,
      6,
    );
    const report = await readFile(at('notes/report.md'), 'utf8');
    expect(report).toContain('sora has the lowest mean perplexity, ');
    expect(report).toContain('perplexity (less is better)');
    expect(await readFile(at('notes/report.html'), 'utf8')).toContain('Dotted: the frozen model. Less is better.');
  });
});

describe('peft-bench train on instructions', () => {
  const flags = ['--method', 'lora', '--budget', 'r=4', '--epochs', '3'];
  const executor = compiled({ threads: 1 });
  let model: PretrainedModel;
  let dev: LanguageSet;
  let reported = NaN;
  beforeAll(async () => {
    const data = ['--model', at('llama'), '--train', at('sums.jsonl'), '--dev', at('sums-dev.jsonl')];
    const [result] = await run('sums', ...data, ...flags);
    reported = result?.metrics.perplexity ?? NaN;
    const { code, stderr } = await peftBench(['train', ...data, ...flags, '--out', at('adapter')]);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('trainable params');
    model = await fromPretrained(at('llama'), { task: 'causal-lm' });
    ({ dev } = await readLanguageTask({ train: at('sums.jsonl'), dev: at('sums-dev.jsonl'), storage: diskStorage() }));
  });

  const perplexityOf = async (judged: PeftModel | Model, set = dev): Promise<number> => {
    const rows = encodeLanguage(set, model.tokenizer, { maxTokens: model.maxTokens });
    return (await evaluate(judged, causalEvaluation(rows, { batchSize: 3 }), { executor }))['perplexity'] ?? NaN;
  };

  it('only scores answers: the adapter has the perplexity of the result, and has not learnt the prompts', async () => {
    const adapter = await loadPretrained(model, at('adapter'), { methods: [lora] });
    expect(await perplexityOf(adapter)).toBeCloseTo(reported, 2);
    expect(reported).toBeLessThan(0.95 * (await perplexityOf(model)));
    const prompts = dev.rows.flatMap((row) => ('completion' in row ? [{ text: row.prompt }] : []));
    const whole = await perplexityOf(adapter, { ...dev, rows: prompts });
    expect(Math.abs(whole - reported)).toBeGreaterThan(1); // other tokens give another number
  });

  it('is shown by inspect, and exported', async () => {
    const { stdout, code } = await peftBench(['inspect', at('adapter')]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/LORA adapter for .*llama, [\d,]+ parameters/);
    const merged = await peftBench(['export', at('adapter'), '--format', 'merged', '--out', at('merged')]);
    expect(merged.code, merged.stderr).toBe(0);
    const opened = await fromPretrained(at('merged'), { task: 'causal-lm' });
    expect(await perplexityOf(opened)).toBeCloseTo(reported, 2);
    expect(opened.tokenizer).toMatchObject({ eosTokenId: END, padTokenId: END, addBosToken: false });
    const config = JSON.parse(await readFile(at('merged/config.json'), 'utf8')) as { architectures: string[] };
    expect(config.architectures).toEqual(['LlamaForCausalLM']);
    const onnx = await peftBench(['export', at('adapter'), '--format', 'onnx', '--out', at('onnx')]);
    expect(onnx.stderr).toMatch(/outputs (equal|are within \de-\d+ of) the adapter's/);
    expect(await readdir(at('onnx'))).toContain('tokenizer_config.json');
  });
});

describe('preferences', () => {
  const pair = (row: number): object => {
    const prompt = `${row % 10}?${row}`;
    return { prompt, chosen: ' yes', rejected: ' no' };
  };
  const pairs = (rows: number, from = 0) =>
    Array.from({ length: rows }, (_, row) => JSON.stringify(pair(from + row))).join('\n');
  const flags = ['--method', 'lora', '--budget', 'r=4', '--epochs', '4', '--learning-rate', '0.01'];
  let data: string[] = [];
  beforeAll(async () => {
    await writeFile(at('pairs.jsonl'), pairs(40));
    await writeFile(at('pairs-dev.jsonl'), pairs(10, 40));
    data = ['--model', at('llama'), '--train', at('pairs.jsonl'), '--dev', at('pairs-dev.jsonl')];
  });

  it('compare methods by their rewards against the frozen model', async () => {
    const results = await run('pairs', ...data, '--method', 'lora,head', ...flags.slice(2));
    const [trained, base] = ['lora', 'head'].map((name) => results.find(({ method }) => method === name));
    expect(trained?.selection.metric).toBe('rewardAccuracy');
    expect(trained?.metrics).toMatchObject({ rewardAccuracy: 1 });
    expect(base?.metrics).toMatchObject({ rewardAccuracy: 0, rewardMargin: 0 });
    expect(await readFile(at('pairs/report.md'), 'utf8')).toContain('rewardAccuracy');
  });

  it.each(['dpo', 'orpo'])('train an adapter by %s', async (loss) => {
    const { code, stderr } = await peftBench(['train', ...data, ...flags, '--loss', loss, '--out', at(`by-${loss}`)]);
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/rewardAccuracy/);
  });
});

describe('the files of a language task', () => {
  const judged = (out: string, ...flags: string[]): Promise<Result[]> =>
    run(out, '--model', at('gpt2'), '--method', 'head', '--max-tokens', '40', ...flags);

  it('may be in one folder, or in one per task', async () => {
    for (const [task, files] of Object.entries({
      notes: { 'train.txt': counting(30).join('\n'), 'dev.txt': counting(9).join('\n') },
      sums: { 'train.jsonl': sums(20), 'dev.jsonl': sums(5) },
      talk: { 'train.jsonl': talk(20), 'dev.jsonl': talk(5) },
    })) {
      await mkdir(at(`data/${task}`), { recursive: true });
      for (const [name, content] of Object.entries(files)) await writeFile(at(`data/${task}/${name}`), content);
    }
    const end = { eos_token_id: END, bos_token_id: END, pad_token_id: null };
    await writeDecoder(at('long-llama'), 'llama', { ...end, max_position_embeddings: 256 });
    const flags = ['--model', at('long-llama'), '--method', 'head'];
    const each = await run('folders', ...flags, '--data', at('data'), '--task', 'notes,sums,talk');
    expect(each.map(({ task }) => task).sort()).toEqual(['notes', 'sums', 'talk']);
    const [alone] = await run('folder', ...flags, '--data', at('data/notes'));
    expect(alone?.task).toBe('notes');
    expect(alone?.id).toBe(each.find(({ task }) => task === 'notes')?.id);
  });

  it('are split into documents by a flag, which makes another trial', async () => {
    const files = ['--train', at('notes.txt'), '--dev', at('notes-dev.txt')];
    const [whole] = await judged('whole', ...files);
    const [lines] = await judged('lines', ...files, '--document-end', 'line');
    expect(lines?.id).not.toBe(whole?.id);
    const tokens = (rows: number | undefined): number => 40 * (rows ?? NaN);
    const characters = counting(12, 3).join('\n').length + 1;
    expect(tokens(whole?.protocol.data.rows['dev'])).toBeGreaterThanOrEqual(characters);
    expect(tokens(whole?.protocol.data.rows['dev'])).toBeLessThan(characters + 40);
  });

  it('make another trial for a model with another end of text', async () => {
    const files = ['--train', at('notes.txt'), '--dev', at('notes-dev.txt'), '--method', 'head'];
    await writeDecoder(at('other-end'), 'gpt2', { eos_token_id: 3, bos_token_id: null, pad_token_id: null });
    const [one] = await run('end', '--model', at('gpt2'), ...files);
    const [other] = await run('end', '--model', at('other-end'), ...files);
    expect(one?.metrics.perplexity).not.toBe(other?.metrics.perplexity);
    expect(other?.id).not.toBe(one?.id);
  });

  it('are sliced by --rows, and truncation is reported once', async () => {
    const long = JSON.stringify({ prompt: 'a'.repeat(60), completion: 'b' });
    await writeFile(at('long.jsonl'), [sums(30), long].join('\n'));
    const ended = await peftBench(
      [
        'run',
        '--json',
        '--seeds',
        '1',
        '--model',
        at('gpt2'),
        '--method',
        'head',
        '--rows',
        '20',
        '--max-tokens',
        '24',
      ].concat(['--train', at('long.jsonl'), '--dev', at('sums-dev.jsonl'), '--out', at('sliced')]),
    );
    expect(resultsOf(ended)[0]?.protocol.data.rows).toEqual({ train: 18, selection: 2, dev: 9 });
    const told = ended.stderr.split('\n').filter((line) => line.includes('tokens'));
    expect(told).toEqual([
      'peft-bench: long: left out, because their first 24 tokens have nothing to learn: 1 training row; raise the length with --max-tokens N',
    ]);
  });
});

/** Conversations. */
function talk(rows: number): string {
  const messages = (row: number): object[] => [
    { role: 'user', content: `what is ${row}?` },
    { role: 'assistant', content: 'a number.' },
  ];
  return Array.from({ length: rows }, (_, row) => JSON.stringify({ messages: messages(row) })).join('\n');
}
