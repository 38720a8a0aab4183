/**
 * Writes the merged models of tests/export/exports.ts for transformers to open. Its outputs on them are the fixture
 * opened.json.
 *
 *   npx tsx --conditions @peftjs/source tools/golden/write-exports.ts results/exports
 *   python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0
 *   venv/bin/python tools/golden/export.py results/exports tests/export/fixtures/opened.json && npx oxfmt tests/export/fixtures
 */
import { rm } from 'node:fs/promises';
import { ConfigError } from '@peftjs/core/method';
import { cases, writeExports } from '../../tests/export/exports.js';

const [target] = process.argv.slice(2);
if (target === undefined) throw new ConfigError('name the folder to write to', 'folder');
await rm(target, { recursive: true, force: true });
await writeExports(target, await cases());
