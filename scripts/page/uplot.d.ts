/** The chart library, which stands before the page's own script. */
declare const uPlot: any;
