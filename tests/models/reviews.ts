import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createDataSet, type DataSet, type LabelKind } from '@peftjs/tasks';

/** The first sentences of Yelp in the UCI sentiment set, positive or negative. */
export async function reviews(count: number): Promise<DataSet<LabelKind>> {
  const file = createRequire(import.meta.url).resolve('sentiment/test/fixtures/yelp.json');
  const rows = JSON.parse(await readFile(file, 'utf8')) as { text: string; class: number }[];
  return createDataSet({
    name: 'yelp',
    kind: 'classification',
    classes: ['bad', 'good'],
    rows: rows.slice(0, count).map(({ text, class: label }) => ({ text, label })),
  });
}
