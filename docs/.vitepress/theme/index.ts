import { h } from 'vue';
import type { Theme } from 'vitepress';
import DefaultTheme from 'vitepress/theme';
import 'katex/dist/katex.min.css';
import idea from '../../images/start.svg';
import './style.css';

const IDEA =
  'A frozen weight of millions of numbers, and beside it eight narrow ranks with a gate each, of which training has closed five';

export default {
  extends: DefaultTheme,
  Layout: () => h(DefaultTheme.Layout, null, { 'home-hero-image': () => h('img', { src: idea, alt: IDEA }) }),
} satisfies Theme;
