import type { ModuleRanks } from '../messages.js';

/** A rank of a module as a cell. */
interface Cell {
  readonly rank: number;
  readonly size: number;
  readonly isAlive: boolean;
  /** The cell's opacity: 0 for a pruned rank, 1 for the largest rank of all modules. */
  readonly strength: number;
}

/** A module as a row of cells. */
interface HeatRow {
  readonly path: string;
  /** The module's path within its layer. */
  readonly name: string;
  readonly cells: readonly Cell[];
  /** The number of active ranks. */
  readonly alive: number;
}

/** The modules of a layer. */
export interface HeatLayer {
  readonly layer: number;
  readonly rows: readonly HeatRow[];
}

/** The minimum strength of an active rank, so that it does not look pruned. */
const FAINTEST = 0.14;

/** Returns the cells by layer, module and rank. */
export function heatMap(modules: readonly ModuleRanks[]): HeatLayer[] {
  const largest = Math.max(0, ...modules.flatMap(({ sizes }) => sizes));
  const layers = [...new Set(modules.map(({ layer }) => layer))].sort((a, b) => a - b);
  return layers.map((layer) => ({
    layer,
    rows: modules.filter((module) => module.layer === layer).map((module) => heatRow(module, largest)),
  }));
}

function heatRow({ path, layer, sizes }: ModuleRanks, largest: number): HeatRow {
  const cells = sizes.map((size, rank) => {
    const isAlive = size > 0;
    const strength = isAlive ? FAINTEST + (1 - FAINTEST) * Math.sqrt(size / largest) : 0;
    return { rank, size, isAlive, strength };
  });
  const [, name = path] = path.split(`.layer.${layer}.`);
  return { path, name, cells, alive: cells.filter(({ isAlive }) => isAlive).length };
}
