import { memoryStorage, type Storage } from '@peftjs/core';
import { fromPretrained } from '@peftjs/models';
import { bytesSource } from '@peftjs/safetensors';
import { expect, it } from 'vitest';
import { bertFiles, bertFolder } from './bert-tiny.js';

it('weights are read one tensor at a time if the storage can read ranges, and the file is closed', async () => {
  const files = memoryStorage(new Map(Object.entries(bertFiles).map(([name, bytes]) => [`bert/${name}`, bytes])));
  const pieces: number[] = [];
  const whole: string[] = [];
  let open = 0;
  const storage: Storage = {
    ...files,
    read(path) {
      whole.push(path);
      return files.read(path);
    },
    async open(path) {
      const source = bytesSource(await files.read(path));
      open++;
      return {
        size: source.size,
        read(offset, length) {
          pieces.push(length);
          return source.read(offset, length);
        },
        close() {
          open--;
          return Promise.resolve();
        },
      };
    },
  };
  const { fingerprint, weights } = await fromPretrained('bert', { storage });
  expect(whole).not.toContain('bert/model.safetensors');
  expect(open).toBe(0);
  const largest = Math.max(...Object.values(weights).map(({ data }) => data.byteLength));
  expect(Math.max(...pieces)).toBeLessThanOrEqual(largest);
  expect(fingerprint).toBe((await fromPretrained(bertFolder)).fingerprint);
  await expect(fromPretrained('bert', { storage, task: 'token-classification', numLabels: 2 })).resolves.toBeDefined();
  expect(open).toBe(0);
});
