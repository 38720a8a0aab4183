import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { writeResult } from '../../packages/cli/src/results/files.js';
import { syntheticTrial } from '../../packages/cli/test/synthetic-results.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { peftBench } from './in-process.js';

const folder = temporaryFolder();
const file = (name: string): string => join(folder, name);

beforeAll(async () => {
  const good = 'text\tlabel\nso good\t1\nso bad\t0\nfine\t1\nno\t0\n';
  await writeFile(file('good.tsv'), good);
  await writeFile(file('two.tsv'), 'text\tlabel\nso good\t1\nso bad\t0\n');
  await writeFile(file('empty.tsv'), '');
  await writeFile(file('columns.tsv'), 'sentence\tlabel\nso good\t1\n');
  await writeFile(file('one-class.tsv'), 'text\tlabel\nso good\t1\nfine\t1\n');
  await writeFile(file('strange-label.tsv'), 'text\tlabel\nso good\t7\n');
  const more = Array.from({ length: 40 }, (_, row) => `row ${row}\t${row % 2}\n`).join('');
  await writeFile(file('holes.tsv'), `${good}a\t\nb\t\n${more}`);
  await writeFile(file('deep.jsonl'), `{"text":"a","label":${'['.repeat(5000)}${']'.repeat(5000)}}\n`);
  await writeFile(file('broken.json'), '{');
  await writeFile(file('wrong.json'), '{"protocol": {"epochs": "many"}}');
  await writeFile(file('list.json'), '[]');
  await writeFile(file('field.json'), '{"protocol": {"epoch": 3}}');
  await writeFile(file('arm.json'), '{"methods": {"hard": {"method": "sora", "rank": 3}}}');
  await writeFile(file('no-method.json'), '{"methods": {"hard": {"method": "soar"}}}');
  await writeFile(file('budgets.json'), '{"budgets": ["r=2", "r=2"]}');
  const tuned = (tuning: object, more: object = {}) => JSON.stringify({ tuning, ...more });
  const oneRate = { methods: { sora: { tuning: { learningRates: [0.1] } } } };
  await writeFile(file('grids.json'), tuned({ learningRates: [0.1, 0.2] }, oneRate));
  await writeFile(file('no-rates.json'), tuned({ learningRates: [] }));
  await writeFile(file('elsewhere.json'), tuned({ learningRates: [0.1], tasks: ['sst2'] }));
  await writeFile(file('tuning-budget.json'), tuned({ learningRates: [0.1], budget: 'r=half' }));
  const claimed = (claim: object, more: object = {}) =>
    JSON.stringify({
      claims: [{ arm: 'sora', budget: 'r=4', noWorseThan: 'lora', itsBudget: 'r=4', ...claim }],
      ...more,
    });
  await writeFile(file('claim-budget.json'), claimed({ budget: 'r=04' }, { margin: 0.01 }));
  await writeFile(file('claim-no-budget.json'), claimed({ itsBudget: null, margin: 0.01 }));
  await writeFile(file('claim-head.json'), claimed({ noWorseThan: 'head', margin: 0.01 }));
  await writeFile(file('claim-margin.json'), claimed({}));
  await writeFile(file('broken.safetensors'), Uint8Array.of(9, 9, 9, 9, 9, 9, 9, 9, 9));
  await mkdir(file('adapter'));
  await writeFile(file('adapter/adapter_config.json'), '{"peft_type": "LORA"}');
  await writeFile(file('adapter/adapter_model.safetensors'), Uint8Array.of(1, 2, 3));
  await writeResult(file('results'), syntheticTrial({ task: 'uci-sentiment', method: 'lora', rank: 4, seed: 1 }));
  await mkdir(file('empty-model'));
  await writeFile(file('a-file'), '');
});

const NOBODY_LISTENS = /^(?!.*open-sesame).*--queue redis:\/\/127\.0\.0\.1:1 cannot be used: connect ECONNREFUSED/;

/** Arguments with file names in angle brackets, and a pattern for the one line that must be printed. */
const cases: [string, string, RegExp][] = [
  ['an unknown command', 'runn', /runn/],
  ['no output folder', 'run', /--out/],
  [
    'a missing option and a column that the file lacks',
    'train --train <columns.tsv> --text-column sentense --out <out>',
    /missing: --method <name>; see peft-bench train --help; and .*columns\.tsv:1: expected a column "sentense" \(did you mean 'sentence'\?\), got "sentence", "label"$/,
  ],
  ['a text that looks like a flag', 'predict <adapter> -so-so', /'-so-so'; put -- before a text that begins with -$/],
  ['such a text after --, and no model', 'predict <empty-model> -- -so-so', /empty-model has neither adapter_config/],
  [
    'a row of many lists in lists',
    'train --train <deep.jsonl> --method lora --out <out>',
    /deep.jsonl:1: .*100 levels/,
  ],
  ['an unknown flag', 'run --bugdet r=4 --out <out>', /--bugdet/],
  [
    'an unknown method',
    'run --method sora,soar --out <out>',
    /'soar' is unknown \(did you mean 'sora'\?\); known are .*lora/,
  ],
  ['a method twice', 'run --method sora,sora --out <out>', /'sora' twice/],
  [
    'an unknown reference',
    'run --method head,lora --reference lorra --out <out>',
    /'reference' has 'lorra' \(did you mean 'lora'\?\); expected one of /,
  ],
  [
    'a reference that is not run',
    'run --method head,lora --reference sora --out <out>',
    /--reference is 'sora'.*; expected an arm of the run: head, lora$/,
  ],
  [
    'a reference that a report lacks',
    'report <results> --reference full',
    /--reference is 'full'; expected an arm of the run: lora$/,
  ],
  ['a malformed budget', 'run --budget r=four --out <out>', /'r=four'; expected a number of parameters/],
  ['a budget of zero', 'run --budget 0 --out <out>', /'0'; expected/],
  ['a budget out of reach', 'run --budget 100 --out <out>', /budget/],
  ['an unknown task', 'run --task sst --out <out>', /'sst' is unknown; known are reviews, uci-sentiment/],
  ['an unknown preset', 'run --preset fast --out <out>', /'fast'; expected .*quick.*smoke/],
  ['a full size that there is not', 'run --preset smoke --full --out <out>', /'smoke' has only one size/],
  ['a preset without its data', 'run --preset glue --out <out>', /--preset glue needs your own data; .*--data/],
  [
    'shards of a study that tunes',
    'run --preset standard --shard 0/2 --out <out>',
    /shares cannot tune learning rates.*--queue/,
  ],
  ['a budget twice', 'run --budget r=2,r=2 --out <out>', /'r=2' twice/],
  ['an unknown engine', 'run --engine turbo --out <out>', /turbo/],
  [
    'an unknown backend',
    'run --backend turbo --out <out>',
    /--engine compiled has no backend 'turbo'; expected auto, cpu, webgpu, cuda$/,
  ],
  [
    'a backend of the other engine',
    'train --method lora --backend wasm --out <out>',
    /expected auto, cpu, webgpu, cuda \(--engine eager has 'wasm'\)$/,
  ],
  [
    'a backend that the eager engine lacks',
    'run --engine eager --backend webgpu --out <out>',
    /--engine eager has no backend 'webgpu'; expected auto, tensorflow, wasm, cpu \(--engine compiled has 'webgpu'\)$/,
  ],
  [
    'a queue that is not a Redis server',
    'run --queue http://:open-sesame@localhost --out <out>',
    /http:\/\/…@localhost'; expected redis:/,
  ],
  ['a queue without a server', 'run --queue redis://:open-sesame@127.0.0.1:1 --out <out>', NOBODY_LISTENS],
  ['a worker without a server', 'worker --queue redis://127.0.0.1:1 --scratch <scratch>', NOBODY_LISTENS],
  ['a worker without a queue', 'worker', /--queue/],
  [
    'a worker with a strange name',
    'worker --queue redis://127.0.0.1:1 --name a/b',
    /--name is 'a\/b'; expected letters/,
  ],
  ['a shard beyond the last', 'run --shard 4/4 --out <out>', /'4\/4'; expected I\/N with I from 0/],
  ['no seeds', 'run --seeds 0 --out <out>', /seeds.*'0'/],
  ['a training file of only two rows', 'run --train <two.tsv> --out <out>', /two: expected two classes to train on/],
  ['a missing file', 'run --train <none.tsv> --dev <good.tsv> --out <out>', /none\.tsv/],
  ['an empty file', 'run --train <empty.tsv> --dev <good.tsv> --out <out>', /empty\.tsv/],
  ['wrong columns', 'run --train <columns.tsv> --dev <good.tsv> --out <out>', /columns\.tsv.*sentence/],
  [
    'only one class',
    'run --train <one-class.tsv> --dev <good.tsv> --out <out>',
    /one-class\.tsv.*two different labels/,
  ],
  [
    'a label that is not in the training file',
    'run --train <good.tsv> --dev <strange-label.tsv> --out <out>',
    /strange-label\.tsv.*7/,
  ],
  ['a study file that is no JSON', 'run --config <broken.json> --out <out>', /broken\.json/],
  ['a study file that is a list', 'run --config <list.json> --out <out>', /list\.json: expected a JSON object/],
  ['a study file with a wrong field', 'run --config <wrong.json> --out <out>', /protocol\.epochs/],
  [
    'a study file with an unknown field',
    'run --config <field.json> --out <out>',
    /'protocol\.epoch' .*known are epochs/,
  ],
  ['an arm with an unknown field', 'run --config <arm.json> --out <out>', /'methods\.hard\.rank' .*known are method/],
  ['an arm of an unknown method', 'run --config <no-method.json> --out <out>', /'soar' is unknown/],
  ['a budget twice in a study file', 'run --config <budgets.json> --out <out>', /'budgets' .*each name once/],
  [
    'grids of different length',
    'run --config <grids.json> --out <out>',
    /unequal tuning effort: the grid of 'sora' has 1 .*, the study's has 2/,
  ],
  ['an empty grid', 'run --config <no-rates.json> --out <out>', /'tuning\.learningRates' .*at least one learning rate/],
  [
    'a tuning task that the study does not have',
    'run --config <elsewhere.json> --out <out>',
    /'tuning\.tasks' has 'sst2'; expected one of uci-sentiment/,
  ],
  [
    'a claim at a budget that is not run',
    'run --config <claim-budget.json> --out <out>',
    /'claims\.0\.budget' is "r=04"; 'sora' is trained at "r=4"$/,
  ],
  [
    'a claim without the budget of its arm',
    'run --config <claim-no-budget.json> --out <out>',
    /'claims\.0\.itsBudget' is null; 'lora' is trained at "r=4"$/,
  ],
  [
    'a claim at a budget of an arm without one',
    'run --config <claim-head.json> --out <out>',
    /'claims\.0\.itsBudget' is "r=4"; 'head' has no budget: write null$/,
  ],
  [
    'a claim without a margin',
    'run --config <claim-margin.json> --out <out>',
    /'claims\.0' has no margin; give it one/,
  ],
  ['an impossible tuning budget', 'run --config <tuning-budget.json> --out <out>', /'r=half'; expected a number/],
  ['an unknown model', 'run --model no-such-model --out <out>', /no-such-model/],
  [
    'a mistyped model',
    'run --model @energetic-ai/model-embedings-en --out <out>',
    /did you mean '@energetic-ai\/model-embeddings-en'/,
  ],
  ['a folder without a model', 'run --model <empty-model> --out <out>', /empty-model/],
  ['an output folder that is a file', 'run --preset smoke --out <a-file>', /a-file/],
  [
    'rows without a label',
    'run --train <holes.tsv> --out <out>',
    /holes\.tsv:6: the row has no label; .*--skip-unlabelled\) \(2 of 46 rows cannot be read, in the lines 6, 7\)$/,
  ],
  ['two methods to train', 'train --method lora,sora --out <out>', /one --method/],
  ['no method to train', 'train --out <out>', /--method/],
  [
    'a budget for a method without one',
    'train --method bitfit --budget 5000 --out <out>',
    /--budget 5000: bitfit takes no budget; leave it out, or choose another method$/,
  ],
  [
    'a file without --train',
    'run <good.tsv> --out <out>',
    /unexpected argument '.*good\.tsv'; to train .*: --train .*good\.tsv$/,
  ],
  [
    'a file as a task',
    'run --task <good.tsv> --out <out>',
    /--task .*good\.tsv is a file; to train on it: --train .*good\.tsv$/,
  ],
  ['too many arguments', 'report a b', /unexpected argument 'b'; see peft-bench report --help$/],
  ['a broken safetensors file', 'inspect <broken.safetensors>', /broken\.safetensors/],
  ['a broken adapter', 'inspect <adapter>', /adapter_model\.safetensors/],
  ['nothing to inspect', 'inspect <nowhere>', /nowhere/],
  ['another JSON file', 'inspect <field.json>', /field\.json is not a trial's result: 'status': [^;]*$/],
  ['no results to report', 'report <empty-model>', /holds no results/],
];

describe('peft-bench exits with 2 and prints one clear line for', () => {
  it.each(cases)('%s', async (_, line, message) => {
    const args = line.split(' ').map((word) => word.replace(/^<(.*)>$/, (_match, name: string) => file(name)));
    const { code, stdout, stderr } = await peftBench(args);
    const lines = stderr
      .trim()
      .split('\n')
      .filter((text) => !text.startsWith('peft-bench: loading'));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(message);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(await readdir(folder)).not.toContain('out');
  });
});

it('--skip-unlabelled leaves rows without a label out, and says how many', async () => {
  const flags = ['--train', file('holes.tsv'), '--skip-unlabelled', '--model', bertFolder, '--plan'];
  const { code, stderr } = await peftBench(['run', ...flags, '--out', file('planned')]);
  expect(stderr).toContain('left out 2 of 46 rows, which have no label');
  expect(code).toBe(0);
});
