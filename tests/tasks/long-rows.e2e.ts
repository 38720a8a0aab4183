import { createDataSet } from '@peftjs/tasks';
import { expect, it } from 'vitest';

it('a data set of 1,024 rows of 560 kB, more than one string can hold, has a fingerprint', async () => {
  const text = 'x'.repeat(560_000);
  const rows = Array.from({ length: 1024 }, (_, row) => ({ text, label: row % 2 }));
  const { fingerprint } = await createDataSet({ name: 'long', kind: 'classification', classes: ['a', 'b'], rows });
  expect(fingerprint).toMatch(/^[0-9a-f]{64}$/);
});
