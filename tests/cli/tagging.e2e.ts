import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { full } from '@peftjs/baselines';
import { compiled } from '@peftjs/engine';
import { pipeline } from '@peftjs/pipelines';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { peftBench } from './command.js';

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);

/** Words of the tiny vocabulary; an entity is recognised by its words. */
const PLACES = ['harbour', 'old town', 'library', 'river coast'];
const PEOPLE = ['gardener', 'waiter', 'my brother'];
const SENTENCES = [
  (person: string, place: string) => [['the'], [person, 'PER'], ['walked'], ['to'], ['the'], [place, 'LOC'], ['.']],
  (person: string, place: string) => [['at'], ['the'], [place, 'LOC'], [','], [person, 'PER'], ['had'], ['soup']],
  (person: string, place: string) => [
    ['is'],
    ['the'],
    [place, 'LOC'],
    ['far'],
    ['?'],
    [person, 'PER'],
    ['told'],
    ['this'],
  ],
] as const;

/** Every sentence with every person and place, in the format of CoNLL-2003: token, two other columns, tag. */
function conll(): string {
  const sentences = PLACES.flatMap((place) =>
    PEOPLE.flatMap((person) => SENTENCES.map((sentence) => sentence(person, place))),
  );
  const lines = sentences.map((pieces) =>
    pieces
      .flatMap(([text = '', type]) =>
        text
          .split(' ')
          .map((word, index) => `${word} X X ${type === undefined ? 'O' : `${index === 0 ? 'B' : 'I'}-${type}`}`),
      )
      .join('\n'),
  );
  return `-DOCSTART- -X- -X- O\n\n${lines.join('\n\n')}\n`;
}

it('the command line trains on a CoNLL file, and finds entities of other texts at their characters', async () => {
  await writeFile(at('train.conll'), conll());
  const data = ['--train', at('train.conll'), '--model', bertFolder, '--preset', 'smoke'];
  const training = ['--method', 'full', '--epochs', '40', '--batch-size', '8', '--learning-rate', '3e-3'];
  const { code, stderr } = await peftBench(['train', ...data, ...training, '--out', at('tagger')]);
  expect(code, stderr).toBe(0);
  expect(stderr).toContain(`${basename(folder)}: no development file, so results are reported on 4 of the 36 rows`);
  expect(Number(/entityF1 (\S+)/.exec(stderr)?.[1])).toBeGreaterThan(0.9);

  const executor = compiled({ threads: 1 });
  const find = await pipeline('token-classification', at('tagger'), { methods: [full], executor });
  const text = 'The  GARDENER walked to the Old\ttown.';
  const found = await find(text, { aggregationStrategy: 'simple' });
  expect(found.map(({ entity_group: type, start, end }) => [type, text.slice(start, end)])).toEqual([
    ['PER', 'GARDENER'],
    ['LOC', 'Old\ttown'],
  ]);
  await find.dispose();
});
