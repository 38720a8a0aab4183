import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { addTrainCommand, closingLines } from './train.js';

type Ended = Parameters<typeof closingLines>[0];

interface Case {
  readonly steps?: number;
  readonly requested?: number | null;
  readonly met?: boolean;
  readonly head?: number;
  readonly epochs?: number;
  readonly isExportable?: boolean;
  readonly rows?: number;
  readonly out?: string;
  readonly train?: string;
}

const lines = ({
  steps = 180,
  requested = 50_000,
  met = true,
  head = 1026,
  epochs,
  isExportable = false,
  rows = 60,
  out = 'mine',
  train,
}: Case = {}) =>
  closingLines({
    result: {
      parameters: { stored: 49_920 },
      budget: { requested, met },
      history: [{ step: steps }],
      protocol: { epochs: 2, data: { rows: { dev: rows } } },
    },
    head,
    example: '"some text"',
    isExportable,
    flags: { out, train, ...(epochs !== undefined && { epochs }) },
  } as unknown as Ended);

const USE = [
  'saved to mine; to use it: npx peft-bench predict mine "some text"',
  'for your own program, in JavaScript or Python: see mine/README.md; to start one with a server: npm create peftjs',
];

describe('the last lines of train', () => {
  it('say what is stored, for which budget, and how to use it', () => {
    expect(lines()).toEqual([
      'stored params: 49,920 in the adapter, for a budget of 50,000, and 1,026 in the head',
      ...USE,
    ]);
    expect(lines({ requested: null, head: 0 })).toEqual(['stored params: 49,920 in the adapter', ...USE]);
    expect(lines({ met: false })[0]).toContain('for a budget of 50,000 (not met)');
  });

  it('say that the score rests on few rows, and to give more with --dev only where that is a flag', () => {
    const said = 'the score rests on only 49 rows: do not rely on it';
    expect(lines({ rows: 49 })[1]).toBe(said);
    expect(lines({ rows: 49, train: 'mine.tsv' })[1]).toBe(`${said}, or evaluate on more rows with --dev`);
    expect(lines({ rows: 50 })).toHaveLength(3);
  });

  it('quote a folder that a shell would split', () => {
    expect(lines({ out: 'my adapter' }).at(-2)).toContain('predict "my adapter" "some text"');
    expect(lines({ out: 'C:\\new-2\\mine.1' }).at(-2)).toContain('predict C:\\new-2\\mine.1 "some text"');
  });

  it('say how to export it, where that is possible, into a folder beside it', () => {
    expect(lines({ isExportable: true, out: 'my adapter/' }).at(-2)).toBe(
      'for transformers.js: npx peft-bench export "my adapter/" --format onnx --out "my adapter-onnx"',
    );
  });

  it('say that the training was short, with epochs that give a hundred steps, unless the user chose them', () => {
    expect(lines({ steps: 6 })[1]).toBe('trained for only 6 steps (--epochs 2); if the score is low, try --epochs 34');
    expect(lines({ steps: 6, epochs: 2 })).toHaveLength(3);
  });
});

it('refuses a seed above the largest one of a study, by its flag', () => {
  const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
  addTrainCommand(program);
  const train = () => program.parse(['train', '--method', 'lora', '--out', 'mine', '--seed', '1001'], { from: 'user' });
  expect(train).toThrow("option '--seed <n>' argument '1001' is invalid. Expected an integer from 1 to 1000.");
});
